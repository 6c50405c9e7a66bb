package netconf

import (
	"bytes"
	"errors"
	"strings"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// A request is one <rpc> message.
type request struct {
	// echo is what rpc-reply repeats of the start tag of rpc: all attributes,
	// with the declarations of their prefixes (RFC 6241 section 4.1).
	echo []byte
	// in is the operation with its parameters. It shares memory with the
	// message where configuration and filters stand.
	in *codec.Input
}

// maxMessageID is the longest message-id, in bytes (RFC 6241's XML schema).
const maxMessageID = 4095

// parse reads an <rpc> message from end to end, so that what is not
// well-formed is seen before anything is done. The request is never nil: with
// an error it has what can be echoed. badRPC tells an error of the rpc layer
// from one of the operation's.
func parse(s *yang.Schema, msg []byte) (req *request, badRPC bool, err error) {
	req = &request{}
	lx, err := codec.NewLexer(msg, s.ModuleByNS)
	if err != nil {
		return req, true, malformed(err)
	}
	if t, err := lx.Next(); err != nil || t != codec.Start {
		return req, true, malformed(err)
	}
	uri, _, _ := lx.Bound(lx.Prefix)
	ns, name := string(uri), string(lx.Local)
	id, has := "", false
	for _, a := range lx.Attr {
		if a.Prefix == nil && string(a.Local) == "message-id" {
			id, has = string(a.Value), true
		}
	}
	echo := echoed(lx)
	in, badRPC, err := content(s, lx)
	if err == nil {
		if t, e := lx.Next(); e != nil || t != codec.EOF {
			return req, true, malformed(e)
		}
	} else if e := wellFormed(msg); e != nil { // what is found first counts only in a message that is XML
		return req, true, e
	}
	switch {
	case ns != nsBase:
		return req, true, rpcErr("unknown-namespace", "the message is not an rpc of NETCONF",
			badElement(name), data.Info{Name: "bad-namespace", Value: ns})
	case name != "rpc":
		return req, true, rpcErr("unknown-element", "the message is not an rpc", badElement(name))
	case len(id) > maxMessageID:
		return req, true, rpcErr("bad-attribute", "the message-id is longer than 4095 bytes", badAttribute("message-id"), badElement("rpc"))
	}
	req.echo, req.in = echo, in
	if !has {
		return req, true, rpcErr("missing-attribute", "rpc has no message-id", badAttribute("message-id"), badElement("rpc"))
	}
	return req, badRPC, err
}

// content reads the children of rpc up to its End: one operation.
func content(s *yang.Schema, lx *codec.Lexer) (in *codec.Input, badRPC bool, err error) {
	for {
		t, err := lx.Next()
		switch {
		case err != nil:
			return nil, true, malformed(err)
		case t == codec.Text && len(bytes.TrimSpace(lx.Data)) > 0:
			return nil, true, rpcErr("bad-element", "rpc holds text", badElement("rpc"))
		case t == codec.End && in == nil:
			return nil, true, rpcErr("missing-element", "rpc holds no operation", badElement("rpc"))
		case t == codec.End:
			return in, false, nil
		case t == codec.Start && in != nil:
			return nil, true, rpcErr("unknown-element", "rpc holds more than one operation", badElement(string(lx.Local)))
		case t == codec.Start:
			uri, mod, _ := lx.Bound(lx.Prefix)
			action := string(uri) == codec.NSYang && string(lx.Local) == "action"
			if !action && (mod == nil || s.RPC(mod, lx.Local) == nil) {
				return nil, false, notSupported(string(lx.Local), string(uri))
			}
			name := string(lx.Local)
			if in, err = codec.ReadInput(s, lx); err != nil {
				return nil, false, inMessage(err, mod, name)
			}
		}
	}
}

// inMessage turns the schema path of a parameter into its path in the message:
// /m:op/input/x is /ietf-netconf:rpc/m:op/x.
func inMessage(err error, mod *yang.Module, op string) error {
	var e *data.Error
	if mod == nil || !errors.As(err, &e) {
		return err
	}
	at := "/" + mod.Name + ":" + op
	rest, ok := strings.CutPrefix(e.Path, at)
	if !ok {
		return err
	}
	fixed := *e
	fixed.Path = "/ietf-netconf:rpc" + at + strings.TrimPrefix(rest, "/input")
	return &fixed
}

func notSupported(name, ns string) error {
	return protoErr("operation-not-supported", "operation <"+name+"> of namespace \""+ns+"\" is not supported", badElement(name))
}

// wellFormed reads a message to its end.
func wellFormed(msg []byte) error {
	lx, err := codec.NewLexer(msg, nil)
	if err != nil {
		return malformed(err)
	}
	for depth, roots := 0, 0; ; {
		t, err := lx.Next()
		switch {
		case err != nil:
			return malformed(err)
		case t == codec.EOF:
			return nil
		case t == codec.Start:
			if depth == 0 {
				roots++
			}
			if roots > 1 {
				return malformed(nil)
			}
			depth++
		case t == codec.End:
			depth--
		}
	}
}

func malformed(err error) error {
	msg := "one root element is wanted"
	if err != nil {
		msg = err.Error()
	}
	return rpcErr("malformed-message", msg)
}

// echoed writes the attributes of the element just read, with each prefix
// declared once.
func echoed(lx *codec.Lexer) []byte {
	var b []byte
	for i, a := range lx.Attr {
		known := a.Prefix == nil || string(a.Prefix) == "xml"
		for _, o := range lx.Attr[:i] {
			known = known || bytes.Equal(o.Prefix, a.Prefix)
		}
		if !known {
			uri, _, _ := lx.Bound(a.Prefix)
			b = append(append(append(b, " xmlns:"...), a.Prefix...), `="`...)
			b = append(appendAttr(b, string(uri)), '"')
		}
		b = append(b, ' ')
		if a.Prefix != nil {
			b = append(append(b, a.Prefix...), ':')
		}
		b = append(append(b, a.Local...), `="`...)
		b = append(appendAttr(b, string(a.Value)), '"')
	}
	return b
}
