package netconf

import (
	"context"
	"errors"
	"runtime/debug"

	"vrouter/mgmt/data"
)

// The namespaces of the protocol itself.
const (
	nsBase       = "urn:ietf:params:xml:ns:netconf:base:1.0"
	nsYang       = "urn:ietf:params:xml:ns:yang:1"
	nsMonitoring = "urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"
)

// protoErr makes an error about the request itself, above the content
// (RFC 6241 section 4.3: error-type protocol).
func protoErr(tag, msg string, info ...data.Info) *data.Error {
	return &data.Error{Type: "protocol", Tag: tag, Msg: msg, Info: info}
}

// rpcErr makes an error about the <rpc> element (error-type rpc).
func rpcErr(tag, msg string, info ...data.Info) *data.Error {
	return &data.Error{Type: "rpc", Tag: tag, Msg: msg, Info: info}
}

func badElement(name string) data.Info   { return data.Info{Name: "bad-element", Value: name} }
func badAttribute(name string) data.Info { return data.Info{Name: "bad-attribute", Value: name} }

// asErrors gives any error as rpc-errors. What is not one of ours could say
// anything; it is for the log, and the client hears only that it failed.
func (s *Server) asErrors(err error) data.Errors {
	var many data.Errors
	var one *data.Error
	switch {
	case errors.As(err, &many) && len(many) > 0:
		return many
	case errors.As(err, &one):
		return data.Errors{one}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return data.Errors{{Tag: "operation-failed", Msg: "the operation was cut short: " + err.Error()}}
	}
	s.log.Error("netconf: internal error", "err", err)
	return data.Errors{{Tag: "operation-failed", Msg: "internal error; the server's log says more"}}
}

// guard calls f, which reads what a client sent. Should that make our code
// panic, the client gets an error and nothing else is lost: f holds no lock and
// has changed nothing yet.
func (s *Server) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("netconf: panic while reading a request", "panic", p, "stack", string(debug.Stack()))
			err = &data.Error{Tag: "operation-failed", Msg: "internal error; the server's log says more"}
		}
	}()
	return f()
}

// maxErrors bounds the rpc-errors of one reply: a bad edit of 10 000 entries
// needs no 10 000 answers.
const maxErrors = 100

// appendErrors appends the rpc-error elements of a reply (RFC 6241 section 4.3).
func (s *Server) appendErrors(b []byte, errs data.Errors, base11 bool) []byte {
	for i, e := range errs {
		if i == maxErrors {
			return s.appendError(b, &data.Error{Tag: "operation-failed", Msg: "there are more errors; these are the first"}, base11)
		}
		b = s.appendError(b, e, base11)
	}
	return b
}

func (s *Server) appendError(b []byte, e *data.Error, base11 bool) []byte {
	typ, tag := e.Type, e.Tag
	if tag == "malformed-message" {
		if typ == "" {
			typ = "rpc"
		}
		if !base11 {
			tag = "operation-failed" // RFC 6241 appendix A: not to be sent to base:1.0 clients
		}
	}
	if typ == "" {
		typ = "application"
	}
	b = append(b, "<rpc-error><error-type>"...)
	b = append(b, typ...)
	b = append(b, "</error-type><error-tag>"...)
	b = append(b, tag...)
	b = append(b, "</error-tag><error-severity>error</error-severity>"...)
	if e.AppTag != "" {
		b = append(b, "<error-app-tag>"...)
		b = appendText(b, e.AppTag)
		b = append(b, "</error-app-tag>"...)
	}
	if e.Path != "" {
		b = s.appendPath(b, "error-path", "", e.Path)
	}
	if e.Msg != "" {
		b = append(b, `<error-message xml:lang="en">`...)
		b = appendText(b, e.Msg)
		b = append(b, "</error-message>"...)
	}
	if len(e.Info) > 0 {
		b = append(b, "<error-info>"...)
		for _, i := range e.Info {
			switch i.Name {
			case "non-unique": // RFC 7950 section 15.1: in YANG's namespace, an instance-identifier
				b = s.appendPath(b, i.Name, ` xmlns="`+nsYang+`"`, i.Value)
				continue
			case "missing-choice": // RFC 7950 section 15.6
				b = append(b, `<missing-choice xmlns="`+nsYang+`">`...)
			default:
				b = append(append(append(b, '<'), i.Name...), '>')
			}
			b = appendText(b, i.Value)
			b = append(append(append(b, "</"...), i.Name...), '>')
		}
		b = append(b, "</error-info>"...)
	}
	return append(b, "</rpc-error>"...)
}
