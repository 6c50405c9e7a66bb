package netconf

import "context"

// validateConfig answers validate (RFC 6241 section 8.6.4.1).
func validateConfig(ctx context.Context, c *call) error {
	src, err := c.source()
	if err != nil {
		return err
	}
	return c.srv.ds.Validate(ctx, c.by(), src)
}
