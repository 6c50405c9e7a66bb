package netconf

import (
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/nacm"
	"vrouter/mgmt/netconf/transport"
	"vrouter/mgmt/txn"
	"vrouter/mgmt/yang"
)

// Where access control (RFC 8341) is asked: mayCall before each operation
// (dispatch), readable and seen for each tree that is read (get, get-config,
// the source of copy-config), authorize for each write of a datastore, by
// whatever operation, mayHear for each notification. All go by the rules in
// running at that moment.

// userOf tells access control who a peer is. The role is the group that the
// transport reports (section 3.4.4, enable-external-groups).
func userOf(p transport.Peer) nacm.User {
	return nacm.User{Name: p.User.Name, Groups: []string{string(p.User.Role)}, Recovery: p.Recovery}
}

// view gives what the session's user may now.
func (c *session) view() *nacm.View {
	return c.srv.access.Policy(c.srv.ds.Tree(datastore.Running)).View(c.user)
}

// mayCall tells whether the user may call the operation or action.
func (c *call) mayCall() bool {
	if c.in.Target != nil {
		return c.view.MayAct(c.in.Op, c.in.Target)
	}
	return c.view.MayExec(c.in.Op)
}

// mayHear tells whether the session's user may get a notification, and counts
// when not. at is the node that it belongs to, nil for one of a module's top.
// It may be called from any goroutine.
func (c *session) mayHear(n *yang.Node, at *data.Path) bool {
	if c.view().MayNotify(n, at) {
		return true
	}
	c.srv.access.DeniedNotifications.Add(1)
	return false
}

// authorize is asked by the datastores before a session changes one. Session 0
// is the server itself.
func (s *Server) authorize(by txn.Session, _ txn.Datastore, old, new *data.Container) error {
	if by.ID == 0 {
		return nil
	}
	c := s.session(by.ID)
	if c == nil {
		return &data.Error{Tag: "access-denied", Msg: "the session is over"}
	}
	errs := c.view().Writes(old, new)
	if len(errs) == 0 {
		return nil
	}
	s.access.DeniedDataWrites.Add(1)
	return errs
}

// readable gives the part of a datastore that the user may read.
func (c *call) readable(tree *data.Container) *data.Container { return c.view.Prune(tree, nil, false) }

// seen is a Want without what the user may not read anyway.
type seen struct {
	binding.Want
	hide func(*yang.Node) bool
}

func (w seen) Subtree(n *yang.Node) bool {
	for p := n; p != nil && p.Kind != yang.Root; p = p.Up {
		if w.hide(p) {
			return false
		}
	}
	return w.Want.Subtree(n)
}
