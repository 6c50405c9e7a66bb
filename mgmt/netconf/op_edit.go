package netconf

import (
	"context"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/txn"
)

var (
	editOps   = map[string]data.Op{"": data.Merge, "merge": data.Merge, "replace": data.Replace, "none": data.None}
	editTests = map[string]txn.TestOption{"": txn.TestThenSet, "test-then-set": txn.TestThenSet, "set": txn.Set, "test-only": txn.TestOnly}
)

// editConfig answers edit-config (RFC 6241 section 7.2). The edit is one step
// whatever error-option says: on an error nothing of it stays, so that all
// three options come to rollback-on-error.
func editConfig(ctx context.Context, c *call) error {
	target, _, err := c.datastore("target")
	if err != nil {
		return err
	}
	config, ok := c.in.Raw(c.node("config"))
	if !ok {
		return protoErr("missing-element", "config is missing", badElement("config"))
	}
	op, _ := c.text("default-operation")
	test, _ := c.text("test-option")
	return c.srv.ds.Edit(ctx, c.by(), target, txn.EditOptions{TestOption: editTests[test]}, func(tree *data.Container) (*data.Container, error) {
		return c.edit(tree, &config, editOps[op])
	})
}

// edit gives the tree that a <config> makes of a tree.
func (c *call) edit(tree *data.Container, config *codec.Raw, op data.Op) (out *data.Container, err error) {
	err = c.srv.guard(func() (err error) {
		out, err = codec.EditRaw(c.srv.schema, tree, *config, op)
		return err
	})
	return out, err
}

// inline reads a <config> that stands for a whole datastore.
func (c *call) inline(config *codec.Raw) (*data.Container, error) {
	return c.edit(data.New(c.srv.schema), config, data.Merge)
}
