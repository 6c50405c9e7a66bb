package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strings"

	"vrouter/mgmt/yang"
)

// errDiffers is how diff says that something differs; it is no message.
var errDiffers = errors.New("something differs")

// away is an error on the way to the vRouter.
type away struct{ error }

func (e away) Unwrap() error { return e.error }

func unreachable(err error) error { return away{err} }

// here is an error on this side of the way: a key file, known_hosts.
type here struct{ error }

func (e here) Unwrap() error { return e.error }

// exitCode gives the code of an error, as the help text lists them.
func exitCode(err error) int {
	var far away
	var near here
	var no *refusal
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errDiffers):
		return 1
	case errors.As(err, &no):
		return 4
	case errors.As(err, &near):
		return 2
	case errors.As(err, &far):
		return 3
	}
	return 2
}

// refusal is what the vRouter answered instead of doing what it was asked for.
type refusal struct {
	errs []rpcError
	hint string // what the user may want to do now
}

func (e *refusal) Error() string {
	var b strings.Builder
	for i, x := range e.errs {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(x.String())
	}
	if e.hint != "" {
		b.WriteString("\nhint: " + e.hint)
	}
	return b.String()
}

// hint adds advice to a refusal for which wanted is true; other errors stay as
// they are.
func hint(err error, wanted func(rpcError) bool, advice string) error {
	var no *refusal
	if !errors.As(err, &no) || no.hint != "" {
		return err
	}
	for _, x := range no.errs {
		if wanted(x) {
			return &refusal{no.errs, advice}
		}
	}
	return err
}

// absent is the refusal for a thing that is not there.
func absent(what string) error {
	return &refusal{errs: []rpcError{{Tag: "data-missing", Message: what}}}
}

// rpcError is an rpc-error of RFC 6241 section 4.3. go-netconf's has lost the
// prefixes of the path.
type rpcError struct {
	Tag      string    `xml:"error-tag"`
	Severity string    `xml:"error-severity"`
	AppTag   string    `xml:"error-app-tag"`
	Path     xmlPath   `xml:"error-path"`
	Message  string    `xml:"error-message"`
	Info     errorInfo `xml:"error-info"`
}

type errorInfo struct {
	All []struct {
		XMLName xml.Name
		xmlPath
	} `xml:",any"`
}

// xmlPath is an instance-identifier with the prefixes that its element declares.
type xmlPath struct {
	Attr []xml.Attr `xml:",any,attr"`
	Text string     `xml:",chardata"`
}

// readErrors takes the errors out of an rpc-reply, warnings apart.
func readErrors(reply []byte) (errs, warnings []rpcError) {
	var r struct {
		Errors []rpcError `xml:"rpc-error"`
	}
	if err := xml.Unmarshal(reply, &r); err != nil { // cannot be: go-netconf has read it
		return []rpcError{{Tag: "operation-failed", Message: "unreadable error: " + err.Error()}}, nil
	}
	for _, e := range r.Errors {
		if e.Severity == "warning" {
			warnings = append(warnings, e)
		} else {
			errs = append(errs, e)
		}
	}
	return errs, warnings
}

// String gives the tag and the message on a line, and where and what below:
//
//	invalid-value: "12" is not within 256..9216
//	  at /ietf-interfaces:interfaces/interface[name='wan0']/vrouter-port:port/mtu
func (e rpcError) String() string {
	var b strings.Builder
	b.WriteString(strings.TrimSpace(e.Tag))
	if t := strings.TrimSpace(e.AppTag); t != "" {
		b.WriteString(" (" + t + ")")
	}
	if m := strings.TrimSpace(e.Message); m != "" {
		b.WriteString(": " + m)
	}
	path := e.Path.String()
	if path != "" {
		b.WriteString("\n  at " + path)
	}
	for _, i := range e.Info.All {
		switch name := i.XMLName.Local; {
		case path != "" && name == "bad-element": // the path says so
			continue
		case name == "session-id" && i.Text == "0": // nobody's session
			continue
		}
		fmt.Fprintf(&b, "\n  %s %s", i.XMLName.Local, i.xmlPath.String())
	}
	return b.String()
}

// String gives the path with module names for prefixes, and these only where
// the module changes, as RFC 7951 does: people know module names, and prefixes
// mean nothing without their declarations. Prefixes that cannot be resolved
// stay as they are.
func (p xmlPath) String() string {
	text := strings.TrimSpace(p.Text)
	ns := map[string]string{}
	for _, a := range p.Attr {
		if a.Name.Space == "xmlns" {
			ns[a.Name.Local] = a.Value
		}
	}
	s, err := schema()
	if err != nil || len(ns) == 0 {
		return text
	}
	var b strings.Builder
	var step *yang.Module // of the step that the predicates belong to
	depth := 0
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '\'' || c == '"':
			n := strings.IndexByte(text[i+1:], c) + 2
			if n < 2 {
				n = len(text) - i
			}
			b.WriteString(text[i : i+n])
			i += n
			continue
		case isName(c):
			n := i
			for n < len(text) && (isName(text[n]) || text[n] == ':') {
				n++
			}
			prefix, local, has := strings.Cut(text[i:n], ":")
			m := s.ModuleByNS([]byte(ns[prefix]))
			switch {
			case !has || ns[prefix] == "" || m == nil:
				b.WriteString(text[i:n])
			case m == step:
				b.WriteString(local)
			default:
				b.WriteString(m.Name + ":" + local)
			}
			if depth == 0 && has {
				step = m
			}
			i = n
			continue
		case c == '[':
			depth++
		case c == ']':
			depth--
		}
		b.WriteByte(c)
		i++
	}
	return b.String()
}

func isName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' || c >= 0x80
}
