package yang

import (
	"fmt"
	"regexp"
	"strings"
)

// CompilePattern translates a regular expression of XSD part 2 appendix F,
// which always matches a whole value, as pattern statements and re-match() use
// them.
func CompilePattern(p string) (*regexp.Regexp, error) { return xsdPattern(p) }

// xsdPattern translates an XSD regular expression to RE2: anchored at both
// ends, ^ and $ are plain characters outside classes, \d is every decimal
// digit. Not translated, and refused by regexp: class subtraction, \i and \c,
// Unicode blocks (\p{IsGreek}), counts above 1000. A module with such a
// pattern does not load: a value must never pass for want of a check.
func xsdPattern(p string) (*regexp.Regexp, error) {
	var b strings.Builder
	b.WriteString(`\A(?:`)
	class := 0
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case c == '\\' && i+1 < len(p):
			i++
			switch {
			case p[i] == 'd':
				b.WriteString(`\p{Nd}`)
			case p[i] == 'D':
				b.WriteString(`\P{Nd}`)
			case p[i] == 'i' || p[i] == 'c' || p[i] == 'I' || p[i] == 'C':
				return nil, fmt.Errorf("pattern %q: \\%c is not supported", p, p[i])
			case p[i] == 'w' && class == 0:
				b.WriteString(`[^\p{P}\p{Z}\p{C}]`)
			case p[i] == 'W' && class == 0:
				b.WriteString(`[\p{P}\p{Z}\p{C}]`)
			case p[i] == 'w': // all but P, Z and C, which a class must list
				b.WriteString(`\p{L}\p{M}\p{N}\p{S}`)
			case p[i] == 'W':
				b.WriteString(`\p{P}\p{Z}\p{C}`)
			case p[i] == 's' && class == 0:
				b.WriteString(`[ \t\n\r]`)
			case p[i] == 'S' && class == 0:
				b.WriteString(`[^ \t\n\r]`)
			case p[i] == 's':
				b.WriteString(` \t\n\r`)
			default:
				b.WriteByte('\\')
				b.WriteByte(p[i])
			}
		case c == '[':
			class++
			if class > 1 {
				return nil, fmt.Errorf("pattern %q: class subtraction is not supported", p)
			}
			b.WriteByte(c)
		case c == ']' && class > 0:
			class--
			b.WriteByte(c)
		case (c == '^' || c == '$') && class == 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '.' && class == 0:
			b.WriteString(`[^\n\r]`)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteString(`)\z`)
	return regexp.Compile(b.String())
}
