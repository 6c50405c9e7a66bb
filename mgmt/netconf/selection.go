package netconf

import (
	"slices"

	"vrouter/mgmt/binding"
	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/nacm"
	"vrouter/mgmt/xpath"
	"vrouter/mgmt/yang"
)

// A selection is what a get or get-config asks for: its filter, its
// with-defaults parameter, and what its user may not see.
type selection struct {
	subtree *codec.Filter // nil: everything
	xpath   *xpath.Expr   // instead of subtree
	mode    codec.Mode
	view    *nacm.View            // what the user may read
	hide    func(*yang.Node) bool // what nobody like the user may read; nil: nothing is hidden
	looks   bool                  // and there is more, which depends on keys
}

// selection reads the parameters filter (RFC 6241 sections 6 and 8.9) and
// with-defaults (RFC 6243 section 4.5).
func (c *call) selection() (*selection, error) {
	sel := &selection{view: c.view}
	sel.hide, sel.looks = c.view.Hidden()
	if m, given := c.text("ietf-netconf-with-defaults:with-defaults"); given {
		sel.mode, _ = codec.ParseMode(m)
	}
	f, ok := c.in.Raw(c.node("filter"))
	if !ok {
		return sel, nil
	}
	typ, path, hasPath, err := filterAttributes(f)
	if err != nil {
		return nil, err
	}
	switch typ {
	case "subtree":
		sel.subtree, err = codec.ParseFilterRaw(c.srv.schema, f)
	case "xpath":
		if !hasPath {
			return nil, protoErr("missing-attribute", "a filter of type xpath needs select", badAttribute("select"), badElement("filter"))
		}
		sel.xpath, err = c.srv.xpath.Filter(path, prefixes{c.srv.schema, f.Prefixes()})
		if err != nil {
			err = protoErr("invalid-value", err.Error(), badAttribute("select"), badElement("filter"))
		}
	default:
		err = protoErr("bad-attribute", "the filter's type is neither subtree nor xpath", badAttribute("type"), badElement("filter"))
	}
	return sel, err
}

// filterAttributes reads the attributes type and select. They are without
// namespace (RFC 6241's YANG module); some clients prefix them with NETCONF's.
func filterAttributes(f codec.Raw) (typ, path string, hasPath bool, err error) {
	typ = "subtree"
	lx, err := codec.NewLexerIn(f.XML, f.Scope, nil)
	if err != nil {
		return "", "", false, malformed(err)
	}
	if _, err := lx.Next(); err != nil {
		return "", "", false, malformed(err)
	}
	for _, a := range lx.Attr {
		ns := ""
		if a.Prefix != nil {
			uri, _, _ := lx.Bound(a.Prefix)
			ns = string(uri)
		}
		switch name := string(a.Local); {
		case ns == "" && name == "type", ns == nsBase && name == "type":
			typ = string(a.Value)
		case ns == "" && name == "select", ns == nsBase && name == "select":
			path, hasPath = string(a.Value), true
		default:
			return "", "", false, protoErr("unknown-attribute", "filter has no attribute "+name, badAttribute(name), badElement("filter"))
		}
	}
	return typ, path, hasPath, nil
}

// prefixes resolves those in scope at a filter.
type prefixes struct {
	schema *yang.Schema
	uris   map[string]string
}

func (p prefixes) ModuleOf(prefix string) *yang.Module {
	return p.schema.ModuleByNS([]byte(p.uris[prefix]))
}

// append appends what is selected of a tree. Once a part was flushed there is
// no error any more.
func (sel *selection) append(b []byte, s *Server, tree *data.Container, flush func([]byte) []byte) ([]byte, error) {
	w := codec.Writer{Schema: s.schema, Mode: sel.mode, Hide: sel.hide, Flush: flush}
	// A predicate could ask for what the writer would hide, so filters see what
	// the user may read, and no more.
	if sel.looks || sel.hide != nil && sel.xpath != nil {
		tree = sel.view.Prune(tree, sel.reach(), true)
	}
	if sel.mode == codec.ReportAll || sel.mode == codec.ReportAllTagged {
		w.When = s.when(tree)
	}
	if sel.xpath == nil {
		return w.AppendFiltered(b, tree, sel.subtree), nil
	}
	picked, err := s.xpath.Select(tree, sel.xpath, w.When != nil)
	if err != nil {
		return b, protoErr("resource-denied", "the filter's expression: "+err.Error())
	}
	return w.Append(b, picked), nil
}

// when tells whether the conditions hold under which nodes that are not in the
// tree have their defaults.
func (s *Server) when(tree *data.Container) func(*data.Path, *yang.Node) bool {
	e := s.xpath.On(tree)
	return func(parent *data.Path, n *yang.Node) bool {
		defer e.Free(e.Mark())
		up := e.At(parent)
		if up == nil {
			return false
		}
		for p := n; p != nil && p != n.Up; p = p.Parent {
			for _, g := range s.xpath.Guards(p) {
				if ok, err := e.Allowed(g, up, nil); !ok || err != nil {
					return false
				}
			}
		}
		return true
	}
}

// reach says what of a tree the filter may look at.
func (sel *selection) reach() binding.Want {
	if sel.xpath != nil {
		return touched(sel.xpath.Touches())
	}
	return sel.subtree
}

// want says what of a tree is asked for and may be seen.
func (sel *selection) want() binding.Want {
	if sel.hide != nil {
		return seen{sel.reach(), sel.hide}
	}
	return sel.reach()
}

// touched is the Want of an XPath filter: what it may look at or select. The
// nil path is everything.
type touched []*data.Path

// Subtree tells whether a path leads to n, through n, or to a node above n.
func (t touched) Subtree(n *yang.Node) bool {
	for _, p := range t {
		if p == nil || below(n, p.Schema) || through(p, n) != nil {
			return true
		}
	}
	return false
}

// Keys gives the entries of list n that the paths name.
func (t touched) Keys(n *yang.Node) (keys []string, all bool) {
	for _, p := range t {
		at := through(p, n)
		switch {
		case at != nil && at.Entry:
			if !slices.Contains(keys, at.Key) {
				keys = append(keys, at.Key)
			}
		case at != nil, p == nil, below(n, p.Schema):
			return nil, true
		}
	}
	return keys, false
}

// through gives the step of p that stands at n.
func through(p *data.Path, n *yang.Node) *data.Path {
	for ; p != nil; p = p.Up {
		if p.Schema == n {
			return p
		}
	}
	return nil
}

// below tells whether data node n is at or under a.
func below(n, a *yang.Node) bool {
	for ; n != nil; n = n.Up {
		if n == a {
			return true
		}
	}
	return false
}
