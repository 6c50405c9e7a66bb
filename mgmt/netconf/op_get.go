package netconf

import (
	"context"
	"errors"

	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
)

// getConfig answers get-config (RFC 6241 section 7.1). It reads the current
// tree of the datastore and waits for nobody.
func getConfig(_ context.Context, c *call) error {
	ds, _, err := c.datastore("source")
	if err != nil {
		return err
	}
	sel, err := c.selection()
	if err != nil {
		return err
	}
	return c.reply(sel, c.srv.ds.Tree(ds))
}

// get answers get (RFC 6241 section 7.7): running and state in one tree.
func get(ctx context.Context, c *call) error {
	sel, err := c.selection()
	if err != nil {
		return err
	}
	tree, err := c.srv.withState(ctx, sel.want())
	if err != nil {
		return err
	}
	return c.reply(sel, tree)
}

// withState adds the state that is wanted to running. The sources are asked
// one after the other, each on top of what the one before gave.
func (s *Server) withState(ctx context.Context, want binding.Want) (*data.Container, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.StateTimeout)
	defer cancel()
	tree := s.ds.Tree(datastore.Running)
	for _, src := range s.state {
		e := data.Begin(tree)
		if err := src.State(ctx, want, e); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				err = &data.Error{Tag: "operation-failed", Msg: "the state was not there in time"}
			}
			return nil, err
		}
		tree = e.Done()
	}
	return tree, nil
}

// reply appends the data element with what is selected.
func (c *call) reply(sel *selection, tree *data.Container) (err error) {
	c.out = append(c.out, "<data>"...)
	if c.out, err = sel.append(c.out, c.srv, tree, c.flush); err != nil {
		return err
	}
	c.out = append(c.out, "</data>"...)
	return nil
}
