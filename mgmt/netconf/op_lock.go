package netconf

import "context"

// lock answers lock (RFC 6241 section 7.5).
func lock(ctx context.Context, c *call) error {
	ds, _, err := c.datastore("target")
	if err != nil {
		return err
	}
	return c.srv.ds.Lock(ctx, c.by(), ds)
}

// unlock answers unlock (RFC 6241 section 7.6).
func unlock(ctx context.Context, c *call) error {
	ds, _, err := c.datastore("target")
	if err != nil {
		return err
	}
	return c.srv.ds.Unlock(ctx, c.by(), ds)
}
