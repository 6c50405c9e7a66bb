package xpath

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The limits keep a hostile expression from using up stack, time or memory.
const (
	maxText  = 64 << 10 // bytes of an expression
	maxDepth = 200      // nested parentheses, predicates and calls
	maxNodes = 10_000   // operators, calls, steps and literals
)

// Error says what is wrong with an expression. It quotes the expression, so
// it suits the message of an rpc-error; the tag for a client's filter is
// invalid-value.
type Error struct {
	Text string // the expression, cut when long
	At   int    // byte offset, -1 when no place applies
	Msg  string
}

func (e *Error) Error() string {
	if e.At < 0 {
		return fmt.Sprintf("XPath %q: %s", e.Text, e.Msg)
	}
	return fmt.Sprintf("XPath %q at %d: %s", e.Text, e.At, e.Msg)
}

func bad(text string, at int, f string, a ...any) *Error {
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	return &Error{strings.ToValidUTF8(text, "?"), at, fmt.Sprintf(f, a...)}
}

type tokenKind uint8

const (
	tEnd    tokenKind = iota
	tNumber           // num
	tString           // text
	tName             // name test: prefix and text; text "*" for a wildcard
	tFunc             // function name or node type; "(" follows
	tAxis             // axis name; "::" follows and is eaten
	tOp               // text is the operator, by name or by sign
	tSign             // text is one of ( ) [ ] . .. @ ,
)

type token struct {
	kind         tokenKind
	at           int
	prefix, text string
	num          float64
}

// lex splits an expression by the rules of XPath 1.0 section 3.7: what a name
// or a star means depends on the token before it.
func lex(s string) ([]token, *Error) {
	if len(s) > maxText {
		return nil, bad(s, -1, "longer than %d bytes", maxText)
	}
	if !utf8.ValidString(s) {
		return nil, bad(s, -1, "not UTF-8")
	}
	var out []token
	for i := 0; ; {
		for i < len(s) && strings.IndexByte(" \t\r\n", s[i]) >= 0 {
			i++
		}
		if i == len(s) {
			return append(out, token{kind: tEnd, at: i}), nil
		}
		t, n, err := lexOne(s, i, operand(out))
		if err != nil {
			return nil, err
		}
		t.at = i
		out = append(out, t)
		i += n
	}
}

// operand tells whether a value must come next, so that a star is a name test
// and a name no operator.
func operand(before []token) bool {
	if len(before) == 0 {
		return true
	}
	switch t := before[len(before)-1]; t.kind {
	case tOp, tAxis:
		return true
	case tSign:
		return t.text == "(" || t.text == "[" || t.text == "," || t.text == "@"
	}
	return false
}

func lexOne(s string, i int, operand bool) (token, int, *Error) {
	two := ""
	if i+2 <= len(s) {
		two = s[i : i+2]
	}
	c := s[i]
	switch {
	case two == "//" || two == "!=" || two == "<=" || two == ">=":
		return token{kind: tOp, text: two}, 2, nil
	case two == "..":
		return token{kind: tSign, text: ".."}, 2, nil
	case c == '.' && len(two) == 2 && digit(two[1]) || digit(c):
		return lexNumber(s, i)
	case strings.IndexByte("()[].@,", c) >= 0:
		return token{kind: tSign, text: s[i : i+1]}, 1, nil
	case strings.IndexByte("/|+-=<>", c) >= 0:
		return token{kind: tOp, text: s[i : i+1]}, 1, nil
	case c == '*' && operand:
		return token{kind: tName, text: "*"}, 1, nil
	case c == '*':
		return token{kind: tOp, text: "*"}, 1, nil
	case c == '"' || c == '\'':
		j := strings.IndexByte(s[i+1:], c)
		if j < 0 {
			return token{}, 0, bad(s, i, "the literal has no end")
		}
		return token{kind: tString, text: s[i+1 : i+1+j]}, j + 2, nil
	case c == '$':
		return token{}, 0, bad(s, i, "there are no variables here")
	}
	return lexName(s, i, operand)
}

func lexNumber(s string, i int) (token, int, *Error) {
	j := i
	for j < len(s) && digit(s[j]) {
		j++
	}
	if j < len(s) && s[j] == '.' {
		for j++; j < len(s) && digit(s[j]); j++ {
		}
	}
	n, err := strconv.ParseFloat(s[i:j], 64)
	if err != nil && n == 0 { // out of range gives infinity, as XPath wants it
		return token{}, 0, bad(s, i, "bad number")
	}
	return token{kind: tNumber, num: n}, j - i, nil
}

func lexName(s string, i int, operand bool) (token, int, *Error) {
	j := ncname(s, i)
	if j == i {
		r, _ := utf8.DecodeRuneInString(s[i:])
		return token{}, 0, bad(s, i, "unexpected %q", r)
	}
	name := s[i:j]
	if !operand {
		switch name {
		case "and", "or", "mod", "div":
			return token{kind: tOp, text: name}, j - i, nil
		}
		return token{}, 0, bad(s, i, "an operator is wanted, not %q", name)
	}
	t := token{kind: tName, text: name}
	if j < len(s) && s[j] == ':' && !strings.HasPrefix(s[j:], "::") {
		k := ncname(s, j+1)
		if k == j+1 && k < len(s) && s[k] == '*' {
			k++
		}
		if k == j+1 {
			return token{}, 0, bad(s, j, "no name after the prefix %q", name)
		}
		t.prefix, t.text, j = name, s[j+1:k], k
		if t.text == "*" {
			return t, j - i, nil
		}
	}
	k := j
	for k < len(s) && strings.IndexByte(" \t\r\n", s[k]) >= 0 {
		k++
	}
	switch rest := s[k:]; {
	case strings.HasPrefix(rest, "::") && t.prefix == "":
		t.kind, j = tAxis, k+2
	case strings.HasPrefix(rest, "("):
		t.kind = tFunc
	}
	return t, j - i, nil
}

// ncname gives the end of an XML name without colons.
func ncname(s string, i int) int {
	for i0 := i; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= 0xC0 && r != 0xD7 && r != 0xF7 && r != utf8.RuneError:
		case i > i0 && (r == '-' || r == '.' || r == 0xB7 || r >= '0' && r <= '9'):
		default:
			return i
		}
		i += n
	}
	return i
}

func digit(c byte) bool { return c >= '0' && c <= '9' }
