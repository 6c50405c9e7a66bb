package data

import "fmt"

// Error is one rpc-error in the terms of RFC 6241 section 4.3 and appendix A.
// It never carries a secret value.
type Error struct {
	// Type is transport, rpc, protocol or application; empty means application.
	Type string
	// Tag is the error-tag, AppTag the error-app-tag ("" when there is none).
	Tag, AppTag string
	// Path is the node's data path in module-name form
	// (/ietf-interfaces:interfaces/interface[name='eth0']/mtu), "" when none applies.
	Path string
	// Msg is the error-message, for people.
	Msg string
	// Info is the content of error-info, in order.
	Info []Info
}

// Info is one element of error-info: bad-element, bad-attribute,
// bad-namespace, session-id, missing-choice, non-unique, ...
type Info struct{ Name, Value string }

func (e *Error) Error() string {
	if e.Path == "" {
		return e.Tag + ": " + e.Msg
	}
	return e.Path + ": " + e.Tag + ": " + e.Msg
}

// Errors is several rpc-errors for one request, at least one.
type Errors []*Error

func (e Errors) Error() string {
	if len(e) == 1 {
		return e[0].Error()
	}
	return fmt.Sprintf("%v (and %d more)", e[0], len(e)-1)
}
