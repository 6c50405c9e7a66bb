package netconf

import (
	"context"
	"fmt"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/txn"
)

// An RPC carries out an rpc or action of a module. Input has the parameters,
// checked by the schema. Output's root is the node Op.Output(), with what the
// reply is to hold; nil, or without children, it becomes <ok/>. An error should
// be a *data.Error or data.Errors. It runs in the session's goroutine, and ends
// early when ctx does.
type RPC func(ctx context.Context, by txn.Session, in *codec.Input) (output *data.Container, err error)

// HandleRPC adds what answers an rpc of the schema. The operations of NETCONF
// itself cannot be replaced.
func (s *Server) HandleRPC(module, name string, h RPC) error {
	m := s.schema.Modules[module]
	if m == nil || s.schema.RPC(m, []byte(name)) == nil {
		return fmt.Errorf("netconf: the schema has no rpc %s:%s", module, name)
	}
	n := s.schema.RPC(m, []byte(name))
	if operations[opName(n)] != nil {
		return fmt.Errorf("netconf: rpc %s:%s is the server's own", module, name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rpcs[n] != nil {
		return fmt.Errorf("netconf: rpc %s:%s is handled already", module, name)
	}
	s.rpcs[n] = h
	return nil
}

// foreign calls the handler of another module.
func (c *call) foreign(ctx context.Context, do RPC) error {
	out, err := do(ctx, c.by(), c.in)
	if err != nil || out == nil {
		return err
	}
	c.out = codec.Writer{Schema: c.srv.schema}.Append(c.out, out)
	return nil
}
