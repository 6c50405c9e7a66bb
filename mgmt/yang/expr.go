package yang

import "regexp"

// CompilePattern translates a regular expression of XSD part 2 appendix F,
// which always matches a whole value, as pattern statements and re-match() use
// them.
func CompilePattern(p string) (*regexp.Regexp, error) { return xsdPattern(p) }

// EnumValue gives the integer assigned to an enum name, written or implied
// (RFC 7950 section 9.6.4.2).
func (t *Type) EnumValue(name string) (int64, bool) {
	v, ok := t.enumValue[name]
	return v, ok
}
