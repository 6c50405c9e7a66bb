package netconf

import (
	"context"
	"strconv"
	"time"
)

// closeSession answers close-session (RFC 6241 section 7.8): the session ends
// once the reply is written.
func closeSession(_ context.Context, c *call) error {
	c.unsubscribe() // nothing comes after the reply
	c.retire("close-session", closed)
	return nil
}

// killSession answers kill-session (RFC 6241 section 7.9): the other session's
// operation is cut short, and the reply comes when its locks are free.
func killSession(ctx context.Context, c *call) error {
	text, _ := c.text("session-id")
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return err // cannot be: the schema says uint32
	}
	id := uint32(n)
	if id == c.id {
		return protoErr("invalid-value", "a session does not kill itself; close-session ends it", badElement("session-id"))
	}
	victim := c.srv.session(id)
	if victim == nil {
		return protoErr("invalid-value", "there is no session "+idText(id), badElement("session-id"))
	}
	victim.killer.Store(c.id)
	victim.cut("killed by session "+idText(c.id), killed)
	patience := time.NewTimer(killPatience)
	defer patience.Stop()
	select {
	case <-victim.over:
		return nil
	case <-ctx.Done(): // killed in turn
		return ctx.Err()
	case <-patience.C:
		return protoErr("operation-failed", "session "+idText(id)+" is cut off, but its operation still runs and holds its locks")
	}
}

// killPatience is how long kill-session waits for the other session's
// operation to notice.
const killPatience = 30 * time.Second
