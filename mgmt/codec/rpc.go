package codec

import (
	"bytes"
	"strings"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// An Input is the request of an RPC or action, read by its schema.
type Input struct {
	Op     *yang.Node      // the rpc or action
	Target *data.Path      // of an action: the node it is called on
	Params *data.Container // its root is Op.Input(); may be empty, never nil

	raw []rawNode
}

type rawNode struct {
	node *yang.Node
	raw  Raw
}

// Raw gives an anydata or anyxml parameter as it stood in the message: config,
// filter. ok is false when the request has none.
func (in *Input) Raw(n *yang.Node) (r Raw, ok bool) {
	for _, x := range in.raw {
		if x.node == n {
			return x.raw, true
		}
	}
	return Raw{}, false
}

// ReadInput reads an operation, whose Start was just read from a Lexer that
// knows the schema's modules, up to its End: a child of <rpc>, also the
// <action> of RFC 7950 section 7.15.2. Parameters are checked for their types,
// and for being there where they are mandatory without condition. Errors are
// *data.Error of type protocol, or rpc for what is not well-formed.
func ReadInput(s *yang.Schema, lx *Lexer) (*Input, error) {
	name := string(lx.Local)
	uri, mod, _ := lx.Bound(lx.Prefix)
	if string(uri) == NSYang && name == "action" {
		return readAction(s, lx)
	}
	var op *yang.Node
	if mod != nil {
		op = s.RPC(mod, lx.Local)
	}
	if op == nil { // that of NETCONF itself is known even where its module is not
		e := &data.Error{Type: "protocol", Tag: "operation-not-supported", Msg: "no operation <" + name + "> is known here",
			Info: []data.Info{{Name: "bad-element", Value: name}}}
		if mod == nil && string(uri) != NSNetconf {
			e.Tag = "unknown-namespace"
			e.Info = append(e.Info, data.Info{Name: "bad-namespace", Value: string(uri)})
		}
		return nil, e
	}
	in := &Input{Op: op}
	return in, in.read(lx)
}

// read reads the parameters up to the End of the operation.
func (in *Input) read(lx *Lexer) error {
	n := in.Op.Input()
	r := &reader{Lexer: lx, edit: data.Begin(data.NewAt(n)), state: true, rpc: in}
	if err := r.children(n, data.Merge); err != nil {
		return err
	}
	in.Params = r.edit.Done()
	if err := missing(nil, n, n.Kids, in.Params); err != nil {
		err.Path = in.path(err.Path)
		return err
	}
	return nil
}

// path names a parameter, whose path begins with that of the operation in the
// schema, or the operation itself: an action below its very node.
func (in *Input) path(p string) string {
	if in.Op == nil {
		return p
	}
	schema := in.Op.Path()
	below, ok := strings.CutPrefix(p, schema)
	if p != "" && !ok {
		return p
	}
	if in.Target != nil {
		schema = in.Target.String() + schema[strings.LastIndexByte(schema, '/'):]
	}
	return schema + below
}

// readAction walks down to the action.
func readAction(s *yang.Schema, lx *Lexer) (*Input, error) {
	in := &Input{}
	r := &reader{Lexer: lx, edit: data.Begin(data.New(s)), state: true, rpc: in}
	if err := r.descend(s.Root); err != nil {
		return nil, err
	}
	if in.Op == nil {
		return nil, r.fail("missing-element", "no action is named", "bad-element", "action")
	}
	return in, nil
}

// descend reads the children of a node on the way to an action, up to its End.
func (r *reader) descend(n *yang.Node) error {
	for {
		t, err := r.Next()
		switch {
		case err != nil:
			return malformed(err)
		case t == End:
			return nil
		case t == Text && len(bytes.TrimSpace(r.Data)) == 0:
			continue
		case t != Start:
			return r.fail("bad-element", "text where elements are wanted", "bad-element", elementName(n))
		}
		_, mod, _ := r.Bound(r.Prefix)
		if op := n.Op(mod, r.Local); mod != nil && op != nil && op.Kind == yang.Action && r.rpc.Op == nil {
			r.rpc.Op, r.rpc.Target = op, r.edit.Path()
			if err := r.rpc.read(r.Lexer); err != nil {
				return err
			}
			continue
		}
		c, err := r.child(n)
		if err != nil {
			return err
		}
		switch {
		case c.IsKey():
			if _, err := r.value(c); err != nil {
				return err
			}
			continue
		case r.rpc.Op != nil || c.Kind != yang.Container && c.Kind != yang.List:
			return r.failAt(r.edit.PathOf(c), "bad-element", "one action, keys, and nothing else are wanted", "bad-element", c.Name)
		case c.Kind == yang.Container:
			err = r.edit.Enter(c, data.Merge)
		default:
			var keys []yang.Value
			if keys, _, err = r.entryKeys(c); err == nil {
				err = r.edit.EnterEntry(c, keys, data.Merge, data.Where{})
			}
		}
		if err != nil {
			return err
		}
		if err := r.descend(c); err != nil {
			return err
		}
		r.edit.Leave()
	}
}

// missing finds a mandatory parameter that is not there. What stands under a
// condition (when) is left to who evaluates it.
func missing(at *data.Path, n *yang.Node, kids []*yang.Node, c *data.Container) *data.Error {
	for _, k := range kids {
		if len(k.When) > 0 {
			continue
		}
		switch k.Kind {
		case yang.Leaf, yang.AnyData:
			if k.Mandatory && c.Child(k) == nil {
				return lacks(at, k.Name)
			}
		case yang.List, yang.LeafList:
			if c.List(k).Len() < k.Min {
				return lacks(at, k.Name)
			}
			if err := missingInEntries(at, k, c.List(k)); err != nil {
				return err
			}
		case yang.Container:
			sub := c.Sub(k)
			p := &data.Path{Up: at, Schema: k}
			if err := missing(p, k, k.Kids, sub); err != nil {
				if sub != nil {
					return err
				}
				if !k.Presence {
					return lacks(at, k.Name)
				}
			}
		case yang.Choice:
			if err := missingInChoice(at, n, k, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func missingInEntries(at *data.Path, k *yang.Node, l *data.List) (err *data.Error) {
	if k.Kind == yang.List {
		l.Each(func(key string, e data.Node) bool {
			err = missing(&data.Path{Up: at, Schema: k, Key: key, Entry: true}, k, k.Kids, e.(*data.Container))
			return err == nil
		})
	}
	return err
}

func missingInChoice(at *data.Path, parent, k *yang.Node, c *data.Container) *data.Error {
	var names []string
	for _, cs := range k.Kids {
		if hasAny(c, cs) {
			return missing(at, parent, cs.Kids, c)
		}
		for _, n := range cs.Kids {
			names = append(names, n.Name)
		}
	}
	if !k.Mandatory {
		return nil
	}
	bad := parent.Name
	if parent.Kind == yang.Input && len(names) > 0 {
		bad = names[0]
	}
	e := lacks(at, bad)
	e.Msg = "one of these is wanted: " + strings.Join(names, ", ")
	return e
}

func hasAny(c *data.Container, s *yang.Node) bool {
	for _, k := range s.Kids {
		if k.Kind == yang.Choice || k.Kind == yang.Case {
			if hasAny(c, k) {
				return true
			}
		} else if c.Child(k) != nil {
			return true
		}
	}
	return false
}

func lacks(at *data.Path, name string) *data.Error {
	return &data.Error{Type: "protocol", Tag: "missing-element", Path: at.String(), Msg: "<" + name + "> is missing",
		Info: []data.Info{{Name: "bad-element", Value: name}}}
}
