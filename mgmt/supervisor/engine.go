package supervisor

import (
	"context"
	"fmt"

	"vrouter/fastpath"
)

// call runs one method of the data plane. It fails with ErrDown while there is
// none, and when it goes away meanwhile.
func call[T any](s *Supervisor, f func(Conn) (T, error)) (T, error) {
	s.mu.RLock()
	conn, why := s.conn, s.why
	s.mu.RUnlock()
	var none T
	if conn == nil {
		return none, down(why)
	}
	v, err := f(conn)
	if err != nil {
		select {
		case <-conn.Done():
			return none, down(err)
		default:
		}
	}
	return v, err
}

func down(why error) error {
	if why == nil {
		return ErrDown
	}
	return fmt.Errorf("%w (%v)", ErrDown, why)
}

var _ fastpath.Engine = (*Supervisor)(nil)

// Caps implements fastpath.Engine.
func (s *Supervisor) Caps(ctx context.Context) (*fastpath.Caps, error) {
	return call(s, func(c Conn) (*fastpath.Caps, error) { return c.Caps(ctx) })
}

// Inventory implements fastpath.Engine.
func (s *Supervisor) Inventory(ctx context.Context) (*fastpath.Inventory, error) {
	return call(s, func(c Conn) (*fastpath.Inventory, error) { return c.Inventory(ctx) })
}

// Prepare implements fastpath.Engine.
func (s *Supervisor) Prepare(ctx context.Context, ch *fastpath.Change) (fastpath.Ticket, error) {
	return call(s, func(c Conn) (fastpath.Ticket, error) { return c.Prepare(ctx, ch) })
}

// Publish implements fastpath.Engine. A ticket of an earlier data plane is
// unknown to the present one.
func (s *Supervisor) Publish(ctx context.Context, t fastpath.Ticket) error {
	_, err := call(s, func(c Conn) (struct{}, error) { return struct{}{}, c.Publish(ctx, t) })
	return err
}

// Abort implements fastpath.Engine.
func (s *Supervisor) Abort(ctx context.Context, t fastpath.Ticket) error {
	_, err := call(s, func(c Conn) (struct{}, error) { return struct{}{}, c.Abort(ctx, t) })
	return err
}

// State implements fastpath.Engine.
func (s *Supervisor) State(ctx context.Context, q *fastpath.Query) (*fastpath.State, error) {
	return call(s, func(c Conn) (*fastpath.State, error) { return c.State(ctx, q) })
}

// Operate implements fastpath.Engine.
func (s *Supervisor) Operate(ctx context.Context, o *fastpath.Operation) error {
	_, err := call(s, func(c Conn) (struct{}, error) { return struct{}{}, c.Operate(ctx, o) })
	return err
}

// Events implements fastpath.Engine. Options.Event is the way to hear of what
// happens: this is for one who watches beside it.
func (s *Supervisor) Events(ctx context.Context, after uint64) (*fastpath.Events, error) {
	return call(s, func(c Conn) (*fastpath.Events, error) { return c.Events(ctx, after) })
}

// Close is there for the interface; Run owns the connection.
func (s *Supervisor) Close() error { return nil }
