package netconf

import (
	"context"
	"strconv"
	"time"

	"vrouter/mgmt/txn"
)

// commit answers commit (RFC 6241 sections 8.3.4.1 and 8.4.5.1).
func commit(ctx context.Context, c *call) error {
	o := txn.CommitOptions{Confirmed: c.given("confirmed")}
	if text, given := c.text("confirm-timeout"); given {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return err // cannot be: the schema says uint32
		}
		o.Timeout = time.Duration(n) * time.Second
	}
	if !o.Confirmed && (c.given("persist") || c.given("confirm-timeout")) {
		return protoErr("missing-element", "confirm-timeout and persist belong to a confirmed commit", badElement("confirmed"))
	}
	var err error
	if o.Persist, err = c.token("persist"); err != nil {
		return err
	}
	if o.PersistID, err = c.token("persist-id"); err != nil {
		return err
	}
	return c.srv.ds.Commit(ctx, c.by(), o)
}

// token reads persist or persist-id. An empty one could not be told from none
// by what comes after, so it is refused.
func (c *call) token(name string) (string, error) {
	text, given := c.text(name)
	if given && text == "" {
		return "", protoErr("invalid-value", name+" is empty", badElement(name))
	}
	return text, nil
}

// cancelCommit answers cancel-commit (RFC 6241 section 8.4.4.1).
func cancelCommit(ctx context.Context, c *call) error {
	id, err := c.token("persist-id")
	if err != nil {
		return err
	}
	return c.srv.ds.CancelCommit(ctx, c.by(), id)
}

// discardChanges answers discard-changes (RFC 6241 section 8.3.4.2).
func discardChanges(ctx context.Context, c *call) error { return c.srv.ds.Discard(ctx, c.by()) }
