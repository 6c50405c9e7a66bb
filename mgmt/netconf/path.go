package netconf

import (
	"slices"
	"strings"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/yang"
)

// appendPath appends an element named tag that holds a data path. The path
// comes in module-name form, where a step without a module is of the module
// of the step before it:
//
//	/ietf-interfaces:interfaces/interface[name='eth0']/ietf-ip:ipv4
//
// On the wire every step has a prefix, and the element itself declares the
// prefixes (RFC 6241 section 4.3, error-path):
//
//	<tag xmlns:if="…" xmlns:ip="…">/if:interfaces/if:interface[if:name='eth0']/ip:ipv4</tag>
//
// extra is written into the start tag as it is. A path that names a module the
// schema does not have is left out, element and all.
func (s *Server) appendPath(b []byte, tag, extra, path string) []byte {
	var text []byte
	var decl []*yang.Module
	prefix := func(m *yang.Module) string {
		for _, d := range decl {
			if d == m {
				break
			}
			if d.Prefix == m.Prefix {
				return m.Name // two modules may like the same prefix; names are unique
			}
		}
		return m.Prefix
	}
	var step *yang.Module // of the last step outside predicates
	depth := 0
	for i := 0; i < len(path); {
		switch c := path[i]; {
		case c == '\'' || c == '"':
			n := strings.IndexByte(path[i+1:], c)
			if n < 0 {
				return b
			}
			text = append(text, path[i:i+n+2]...)
			i += n + 2
		case nameStart(c):
			m, name := step, nameAt(path[i:])
			if i += len(name); i < len(path) && path[i] == ':' {
				if m = s.schema.Modules[name]; m == nil {
					return b
				}
				name = nameAt(path[i+1:])
				i += 1 + len(name)
			}
			if m == nil {
				return b
			}
			if depth == 0 {
				step = m
			}
			text = append(append(append(text, prefix(m)...), ':'), name...)
			if !slices.Contains(decl, m) {
				decl = append(decl, m)
			}
		default:
			switch c {
			case '[':
				depth++
			case ']':
				depth--
			}
			text = append(text, c)
			i++
		}
	}
	b = append(append(append(b, '<'), tag...), extra...)
	for _, m := range decl {
		b = append(append(append(b, " xmlns:"...), prefix(m)...), `="`...)
		b = append(appendAttr(b, m.Namespace), '"')
	}
	b = append(b, '>')
	b = appendText(b, string(text))
	return append(append(append(b, "</"...), tag...), '>')
}

// nameAt gives the XML name that s begins with.
func nameAt(s string) string {
	n := 0
	for n < len(s) && (nameStart(s[n]) || s[n] == '-' || s[n] == '.' || s[n] >= '0' && s[n] <= '9') {
		n++
	}
	return s[:n]
}

func nameStart(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }

// appendText appends character data, fit for element content. What XML cannot
// hold becomes U+FFFD.
func appendText(b []byte, s string) []byte { return codec.AppendText(b, s) }

// appendAttr appends an attribute value, for double quotes, so that a reader
// gets it back as it was.
func appendAttr(b []byte, s string) []byte { return codec.AppendAttr(b, s) }
