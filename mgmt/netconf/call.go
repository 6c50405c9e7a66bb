package netconf

import (
	"context"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/nacm"
	"vrouter/mgmt/yang"
)

// A call is one operation under way.
type call struct {
	*session
	in   *codec.Input
	view *nacm.View // what its user may, by the rules when it began
}

// A handler carries out an operation, whose parameters have the types and are
// there as the operation's schema wants. It appends the content of the
// rpc-reply to c.out, or nothing for <ok/>; an error takes back what it
// appended.
type handler func(ctx context.Context, c *call) error

// node finds the schema of a parameter by name, or by module:name where it is
// of another module than the operation.
func (c *call) node(name string) *yang.Node { return c.in.Op.Input().ChildByName(name) }

// text gives a parameter that is a leaf, in canonical form.
func (c *call) text(name string) (value string, given bool) {
	if n := c.node(name); n != nil {
		if l, ok := c.in.Params.Child(n).(*data.Leaf); ok {
			return l.Value.Text, true
		}
	}
	return "", false
}

// given tells whether there is a parameter of this name.
func (c *call) given(name string) bool {
	n := c.node(name)
	return n != nil && c.in.Params.Child(n) != nil
}

var dsNames = map[string]datastore.Name{
	"running": datastore.Running, "candidate": datastore.Candidate, "startup": datastore.Startup}

// datastore reads a parameter like <target><candidate/></target>. An inline
// <config> comes back as it stands in the message.
func (c *call) datastore(name string) (ds datastore.Name, config *codec.Raw, err error) {
	n := c.node(name)
	for _, k := range c.in.Params.Sub(n).Kids() { // one at most: they are cases of a choice
		if raw, ok := c.in.Raw(k.Schema()); ok {
			return 0, &raw, nil
		}
		if ds, ok := dsNames[k.Schema().Name]; ok {
			return ds, nil, nil
		}
	}
	return 0, nil, protoErr("missing-element", "parameter "+name+" names no datastore that is there", badElement(name))
}
