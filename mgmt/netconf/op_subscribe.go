package netconf

import (
	"context"
	"errors"
	"io"
	"time"

	"vrouter/mgmt/notify"
	"vrouter/mgmt/yang"
)

// A subscriber is the subscription of a session with the goroutine that writes
// its notifications.
type subscriber struct {
	*notify.Subscription
	gone chan struct{} // closed when the goroutine writes nothing any more
}

// createSubscription answers create-subscription (RFC 5277 section 2.1.1). The
// session goes on with other operations (:interleave).
func createSubscription(_ context.Context, c *call) error {
	hub := c.srv.opt.Events
	if hub == nil {
		return notSupported(c.in.Op.Name, c.in.Op.Module.Namespace)
	}
	c.mu.Lock()
	busy := c.sub != nil
	c.mu.Unlock()
	if busy { // section 6.5
		return protoErr("operation-failed", "the session has a subscription already")
	}
	r := notify.Request{May: func(n *yang.Node) bool { return c.mayHear(n, nil) }}
	r.Stream, _ = c.text("stream")
	var err error
	if r.Filter, err = c.eventFilter(hub); err != nil {
		return err
	}
	if r.Start, err = c.time("startTime"); err != nil {
		return err
	}
	if r.Stop, err = c.time("stopTime"); err != nil {
		return err
	}
	switch {
	case r.Start.IsZero() && !r.Stop.IsZero():
		return protoErr("missing-element", "stopTime needs startTime", badElement("startTime"))
	case r.Start.After(time.Now()):
		return protoErr("bad-element", "startTime is in the future", badElement("startTime"))
	case !r.Stop.IsZero() && !r.Stop.After(r.Start):
		return protoErr("bad-element", "stopTime is not after startTime", badElement("stopTime"))
	}
	s, err := hub.Subscribe(r)
	if errors.Is(err, notify.ErrStream) {
		return protoErr("invalid-value", "there is no stream "+r.Stream, badElement("stream"))
	} else if err != nil {
		return err
	}
	c.next = &subscriber{s, make(chan struct{})}
	return nil
}

// eventFilter reads the parameter filter, whose attributes are those of get.
func (c *call) eventFilter(hub *notify.Hub) (*notify.Filter, error) {
	raw, ok := c.in.Raw(c.node("filter"))
	if !ok {
		return nil, nil
	}
	typ, path, hasPath, err := filterAttributes(raw)
	switch {
	case err != nil:
		return nil, err
	case typ == "subtree":
		return hub.Subtree(raw)
	case typ != "xpath":
		return nil, protoErr("bad-attribute", "the filter's type is neither subtree nor xpath", badAttribute("type"), badElement("filter"))
	case !hasPath:
		return nil, protoErr("missing-attribute", "a filter of type xpath needs select", badAttribute("select"), badElement("filter"))
	}
	f, err := hub.XPath(path, prefixes{c.srv.schema, raw.Prefixes()})
	if err != nil {
		return nil, protoErr("invalid-value", err.Error(), badAttribute("select"), badElement("filter"))
	}
	return f, nil
}

// time reads a parameter that is a yang:date-and-time; zero when it is not
// given. The schema knows its form, but not which days there are.
func (c *call) time(name string) (time.Time, error) {
	text, given := c.text(name)
	if !given {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, protoErr("invalid-value", name+" is no time that there is", badElement(name))
	}
	return t, nil
}

// subscribed begins to send notifications, once the reply to
// create-subscription is written.
func (c *session) subscribed() {
	s := c.next
	if s == nil {
		return
	}
	c.next = nil
	c.mu.Lock()
	c.sub = s
	c.mu.Unlock()
	go c.tell(s)
	go c.watch(s)
}

// tell writes what a subscription gives until it ends.
func (c *session) tell(s *subscriber) {
	defer close(s.gone)
	defer s.Close()
	for {
		m, err := s.Next(c.ctx)
		switch {
		case err == nil:
		case err == io.EOF, errors.Is(err, notify.ErrClosed), errors.Is(err, notify.ErrBehind), c.ctx.Err() != nil:
			return
		default:
			c.cut("its filter for notifications: "+err.Error(), other)
			return
		}
		if s.Over() { // the client may subscribe again as soon as it reads this
			c.mu.Lock()
			c.sub = nil
			c.mu.Unlock()
		}
		c.stats.outNotifications.Add(1)
		c.srv.stats.outNotifications.Add(1)
		c.writing.Lock()
		c.w.Write(m)
		err = c.w.End()
		c.writing.Unlock()
		if err != nil {
			c.cut("lost: "+err.Error(), dropped)
			return
		}
	}
}

// watch ends the session when its client does not read: then the goroutine that
// writes to it is held up. A client that misses events and does not know would be
// worse off than one that comes back and asks for a replay.
func (c *session) watch(s *subscriber) {
	<-s.Done()
	if err := s.Err(); errors.Is(err, notify.ErrBehind) {
		c.log.Warn("netconf: session cut off", "reason", err)
		c.cut(err.Error(), other)
	}
}

// unsubscribe ends the subscription, if there is one, and returns when no
// notification will be written any more.
func (c *session) unsubscribe() {
	c.mu.Lock()
	s := c.sub
	c.sub = nil
	c.mu.Unlock()
	if s != nil {
		s.Close()
		<-s.gone
	}
	if c.next != nil { // its reply could not be written
		c.next.Close()
		c.next = nil
	}
}
