package netconf

import (
	"context"

	"vrouter/mgmt/yang"
)

// The operations; each has a file of its own.
var operations = map[string]handler{
	"ietf-netconf:get":                   get,
	"ietf-netconf:get-config":            getConfig,
	"ietf-netconf:edit-config":           editConfig,
	"ietf-netconf:copy-config":           copyConfig,
	"ietf-netconf:delete-config":         deleteConfig,
	"ietf-netconf:lock":                  lock,
	"ietf-netconf:unlock":                unlock,
	"ietf-netconf:validate":              validateConfig,
	"ietf-netconf:commit":                commit,
	"ietf-netconf:cancel-commit":         cancelCommit,
	"ietf-netconf:discard-changes":       discardChanges,
	"ietf-netconf:close-session":         closeSession,
	"ietf-netconf:kill-session":          killSession,
	"ietf-netconf-monitoring:get-schema": getSchema,
	"notifications:create-subscription":  createSubscription,
}

func opName(n *yang.Node) string { return n.Module.Name + ":" + n.Name }

// dispatch carries out the operation of a call, if its user may call it. Of an
// error the client hears no more than it may.
func (s *Server) dispatch(ctx context.Context, c *call) error {
	c.view = c.session.view()
	if !c.mayCall() {
		s.access.DeniedOperations.Add(1)
		return protoErr("access-denied", c.user.Name+" may not call "+c.in.Op.Name)
	}
	return c.view.Veil(s.carryOut(ctx, c))
}

func (s *Server) carryOut(ctx context.Context, c *call) error {
	if do := operations[opName(c.in.Op)]; do != nil {
		return do(ctx, c)
	}
	s.mu.Lock()
	do := s.rpcs[c.in.Op]
	s.mu.Unlock()
	if do == nil {
		return notSupported(c.in.Op.Name, c.in.Op.Module.Namespace)
	}
	return c.foreign(ctx, do)
}
