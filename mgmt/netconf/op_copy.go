package netconf

import (
	"context"

	"vrouter/mgmt/datastore"
	"vrouter/mgmt/txn"
)

// copyConfig answers copy-config (RFC 6241 section 7.3). Its with-defaults
// parameter has nothing to do: between datastores what is explicit stays so,
// and tags in an inline configuration speak for themselves (RFC 6243 section
// 4.5.2).
func copyConfig(ctx context.Context, c *call) error {
	to, _, err := c.datastore("target")
	if err != nil {
		return err
	}
	from, err := c.source()
	if err != nil {
		return err
	}
	if from.Tree == nil && from.Datastore == to {
		return protoErr("invalid-value", "source and target are the same datastore", badElement("target"))
	}
	if from.Tree == nil && !(from.Datastore == datastore.Running && to == datastore.Startup) {
		// What the user may not read is left out of the copy; running goes to
		// startup whole (RFC 8341 section 3.2.6).
		whole := c.srv.ds.Tree(from.Datastore)
		if part := c.readable(whole); part != whole {
			from.Tree = part
		}
	}
	return c.srv.ds.Copy(ctx, c.by(), from, to)
}

// source reads the parameter source of copy-config and validate.
func (c *call) source() (txn.Source, error) {
	ds, config, err := c.datastore("source")
	if err != nil {
		return txn.Source{}, err
	}
	src := txn.Source{Datastore: ds}
	if config != nil {
		src.Tree, err = c.inline(config)
	}
	return src, err
}

// deleteConfig answers delete-config (RFC 6241 section 7.4). The schema leaves
// only startup: running and candidate cannot be deleted.
func deleteConfig(ctx context.Context, c *call) error {
	ds, _, err := c.datastore("target")
	if err != nil {
		return err
	}
	return c.srv.ds.Delete(ctx, c.by(), ds)
}
