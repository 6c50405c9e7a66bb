// Package oper writes operational state into a data tree by the names of its
// nodes, for the State methods of bindings.
package oper

import (
	"strconv"
	"time"

	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// A Writer puts state nodes below where it stands, at first the root. Nodes
// that nobody asked for are left out, and so are those that a deviation took
// out of the schema. The first error stays; ask Err at the end.
type Writer struct {
	schema *yang.Schema
	want   binding.Want
	edit   *data.Edit
	at     *yang.Node
	err    error
}

// New makes a Writer for one State call.
func New(s *yang.Schema, w binding.Want, e *data.Edit) *Writer {
	return &Writer{schema: s, want: w, edit: e, at: s.Root}
}

// Err gives the first error.
func (w *Writer) Err() error { return w.err }

// child finds a child that the schema has and that is wanted.
func (w *Writer) child(name string) *yang.Node {
	if w.err != nil {
		return nil
	}
	if n := w.at.ChildByName(name); n != nil && w.want.Subtree(n) {
		return n
	}
	return nil
}

// In writes a container of state, which need not be there.
func (w *Writer) In(name string, f func()) {
	if n := w.child(name); n != nil {
		if w.err = w.edit.Enter(n, data.Merge); w.err == nil {
			w.inside(n, f)
		}
	}
}

// InConfig goes into a container of configuration, if it is there: a <get> may
// be asked while a commit takes it away.
func (w *Writer) InConfig(name string, f func()) {
	n := w.child(name)
	if n == nil || w.Here().Sub(n) == nil {
		return
	}
	if w.err = w.edit.Enter(n, data.None); w.err == nil {
		w.inside(n, f)
	}
}

// Entry writes an entry of a list, made when it is not there. A list without
// keys gets a new one each time.
func (w *Writer) Entry(name string, keys []string, f func()) {
	if n := w.child(name); n != nil {
		v := w.keys(n, keys)
		if w.err == nil {
			w.err = w.edit.EnterEntry(n, v, data.Merge, data.Where{})
		}
		if w.err == nil {
			w.inside(n, f)
		}
	}
}

// EntryConfig goes into an entry of configuration, if it is there.
func (w *Writer) EntryConfig(name string, keys []string, f func()) {
	if n := w.child(name); n != nil {
		v := w.keys(n, keys)
		if w.err != nil || w.Here().List(n).Get(data.Key(v...)) == nil {
			return
		}
		if w.err = w.edit.EnterEntry(n, v, data.None, data.Where{}); w.err == nil {
			w.inside(n, f)
		}
	}
}

func (w *Writer) keys(n *yang.Node, keys []string) []yang.Value {
	v := make([]yang.Value, len(keys))
	for i, k := range keys {
		if v[i], w.err = n.Keys[i].Type.Parse(k, w.schema.Names()); w.err != nil {
			return nil
		}
	}
	return v
}

func (w *Writer) inside(n *yang.Node, f func()) {
	up := w.at
	w.at = n
	f()
	w.at = up
	w.edit.Leave()
}

// Here gives the container or entry at which the Writer stands, nil when it is
// not there yet.
func (w *Writer) Here() *data.Container { return w.edit.Here() }

// Keys gives the keys of a list's entries that are there, for a list of one key.
func (w *Writer) Keys(name string) (keys []string) {
	n := w.child(name)
	if n == nil {
		return nil
	}
	w.Here().List(n).Each(func(key string, _ data.Node) bool {
		keys = append(keys, key)
		return true
	})
	return keys
}

// Wants tells whether a child is asked for: to spare the work of finding out.
func (w *Writer) Wants(name string) bool { return w.child(name) != nil }

// Text writes a leaf, or one value of a leaf-list. An identity is named with
// its module.
func (w *Writer) Text(name, text string) {
	if n := w.child(name); n != nil {
		w.err = w.edit.Set(n, text)
	}
}

// Uint writes a number.
func (w *Writer) Uint(name string, v uint64) { w.Text(name, strconv.FormatUint(v, 10)) }

// Counter32 writes a counter that starts again after 2^32 - 1, as RFC 6991's
// counter32 does.
func (w *Writer) Counter32(name string, v uint64) { w.Uint(name, uint64(uint32(v))) }

// Gauge writes a number that stays within max: a gauge or a limit holds its
// largest value rather than start again.
func (w *Writer) Gauge(name string, v, max uint64) { w.Uint(name, min(v, max)) }

// Bool writes a boolean.
func (w *Writer) Bool(name string, v bool) { w.Text(name, strconv.FormatBool(v)) }

// Time writes a date-and-time from Unix nanoseconds; 0 writes nothing.
func (w *Writer) Time(name string, nanos int64) {
	if nanos != 0 {
		w.Text(name, time.Unix(0, nanos).UTC().Format("2006-01-02T15:04:05.999Z"))
	}
}

// Names gives the entries of a list that are asked for, as a Query wants them:
// nil for none, empty for all.
func Names(want binding.Want, list *yang.Node) []string {
	if !want.Subtree(list) {
		return nil
	}
	keys, all := want.Keys(list)
	switch {
	case all:
		return []string{}
	case len(keys) == 0:
		return nil
	}
	return keys
}

// AnyState tells whether a state node at or below one of the nodes is asked
// for; configuration alone needs no data plane.
func AnyState(want binding.Want, nodes ...*yang.Node) bool {
	for _, n := range nodes {
		if n == nil || !want.Subtree(n) {
			continue
		}
		if !n.Config {
			return true
		}
		if AnyState(want, n.Data...) {
			return true
		}
	}
	return false
}
