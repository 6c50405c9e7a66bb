package netconf

import (
	"context"
	"slices"

	"vrouter/mgmt/netconf/users"
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
}

// admin are the operations that RFC 6241's YANG module marks with
// nacm:default-deny-all.
var admin = []string{"ietf-netconf:delete-config", "ietf-netconf:kill-session"}

func opName(n *yang.Node) string { return n.Module.Name + ":" + n.Name }

// dispatch carries out the operation of a call.
func (s *Server) dispatch(ctx context.Context, c *call) error {
	name := opName(c.in.Op)
	if c.peer.User.Role != users.Admin && (c.in.Op.Secret() || slices.Contains(admin, name)) {
		return protoErr("access-denied", c.in.Op.Name+" is for role admin")
	}
	if do := operations[name]; do != nil {
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
