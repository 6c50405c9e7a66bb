// Package nacm is access control by the rules of ietf-netconf-acm (RFC 8341):
// who may carry out which operation, see and write which data, and get which
// notification. It knows rules and trees; sessions and messages are the
// business of mgmt/netconf, which asks here.
//
// The rules stand in running, under /nacm. A Policy is what they compile to;
// as trees never change, it belongs to the very container that holds them, and
// Control.Policy compiles again only when a commit has replaced that. A View
// is a Policy as one user meets it: the rules of the user's groups, and for
// each kind of access a table by schema node that says permit, deny, or look
// at the keys. Who is under no rule has no table and pays nothing.
//
// # Roles
//
// What the transport knows of a user (the role in the users file) counts as a
// group that the transport reports, while enable-external-groups is true. The
// groups Admin and Operator, when reported so, have rights of their own behind
// all configured rule lists: Admin all, Operator writing what is neither
// default-deny-write nor default-deny-all. A configured rule comes before them
// and may take them away. Groups of the same names under /nacm/groups are
// matched by rules like any other and have no such rights.
//
// # Choices where the RFC leaves one
//
//   - A node that may not be read hides all below it, also what a rule permits
//     (RFC 8341 section 3.2.4). An entry of which a key may not be read is hidden
//     whole.
//   - default-deny-all and default-deny-write count for all below the node.
//   - A write needs the right for every node that differs, so for all that comes
//     or goes with a subtree; containers without presence, which mean nothing by
//     themselves, apart. Moving an entry is an update of it.
//   - Nodes of another case that go because a node of a choice came, and nodes
//     whose when became false, need no right (section 3.2.5).
//   - A path that names nothing of the schema is refused at commit.
package nacm

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// Module has the rules.
const Module = "ietf-netconf-acm"

// The groups that have rights behind the rules when the transport reports them.
const (
	Admin    = "admin"
	Operator = "operator"
)

// A User is who asks.
type User struct {
	Name string
	// Groups are those that the transport reports; they count while
	// enable-external-groups is true.
	Groups []string
	// Recovery marks the recovery session of RFC 8341 section 3.3.3, which is
	// under no rule.
	Recovery bool
}

// Access is a kind of access, or a set of them.
type Access uint8

// The kinds, as bits of access-operations.
const (
	Create Access = 1 << iota
	Read
	Update
	Delete
	Exec
)

// String gives the names as access-operations has them.
func (a Access) String() string {
	var s []string
	for i, n := range accessNames {
		if a&(1<<i) != 0 {
			s = append(s, n)
		}
	}
	return strings.Join(s, " ")
}

var accessNames = [...]string{"create", "read", "update", "delete", "exec"}

// Control holds the policy in force and counts what it denied since the
// server started. It is safe for concurrent use.
type Control struct {
	schema *yang.Schema
	log    *slog.Logger
	n      nodes

	// What was denied (RFC 8341 section 3.5.2): operations, requests that would
	// have changed a datastore, notifications.
	DeniedOperations, DeniedDataWrites, DeniedNotifications atomic.Uint32

	mu  sync.Mutex // of compiling
	now atomic.Pointer[Policy]
}

// nodes are those of the module.
type nodes struct {
	nacm, enable, readDefault, writeDefault, execDefault, external *yang.Node
	deniedOperations, deniedDataWrites, deniedNotifications        *yang.Node
	groups, group, userName                                        *yang.Node
	ruleList, ruleListGroup, rule                                  *yang.Node
	module, rpc, notification, path, access, action                *yang.Node
}

// New makes a Control for a schema that implements ietf-netconf-acm.
func New(s *yang.Schema, log *slog.Logger) (*Control, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Control{schema: s, log: log}
	find := func(n **yang.Node, path string) error {
		if *n = s.Find("/" + Module + ":nacm" + path); *n == nil {
			return fmt.Errorf("nacm: the schema does not have /%s:nacm%s", Module, path)
		}
		return nil
	}
	for _, f := range []struct {
		n    **yang.Node
		path string
	}{
		{&c.n.nacm, ""}, {&c.n.enable, "/enable-nacm"}, {&c.n.readDefault, "/read-default"}, {&c.n.writeDefault, "/write-default"},
		{&c.n.execDefault, "/exec-default"}, {&c.n.external, "/enable-external-groups"},
		{&c.n.deniedOperations, "/denied-operations"}, {&c.n.deniedDataWrites, "/denied-data-writes"}, {&c.n.deniedNotifications, "/denied-notifications"},
		{&c.n.groups, "/groups"}, {&c.n.group, "/groups/group"}, {&c.n.userName, "/groups/group/user-name"},
		{&c.n.ruleList, "/rule-list"}, {&c.n.ruleListGroup, "/rule-list/group"}, {&c.n.rule, "/rule-list/rule"},
		{&c.n.module, "/rule-list/rule/module-name"}, {&c.n.rpc, "/rule-list/rule/rpc-name"}, {&c.n.notification, "/rule-list/rule/notification-name"},
		{&c.n.path, "/rule-list/rule/path"}, {&c.n.access, "/rule-list/rule/access-operations"}, {&c.n.action, "/rule-list/rule/action"},
	} {
		if err := find(f.n, f.path); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Policy gives the policy of a running configuration. It costs a comparison
// unless /nacm has changed since the last call. Rules that do not compile, of
// which Check would have told, let nobody in but the recovery session.
func (c *Control) Policy(running *data.Container) *Policy {
	from := running.Sub(c.n.nacm)
	if p := c.now.Load(); p != nil && p.from == from {
		return p
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.now.Load(); p != nil && p.from == from {
		return p
	}
	p, errs := c.compile(from)
	if len(errs) > 0 {
		c.log.Error("the access rules cannot be used: only the recovery session (root on this machine) may come in until they are mended", "err", errs)
		p.closed = true
	}
	c.now.Store(p)
	return p
}

// Check tells what is wrong with the rules of a configuration, with paths.
func (c *Control) Check(running *data.Container) data.Errors {
	from := running.Sub(c.n.nacm)
	if p := c.now.Load(); p != nil && p.from == from && !p.closed {
		return nil
	}
	_, errs := c.compile(from)
	return errs
}

// A Policy is the access rules of a configuration. It never changes.
type Policy struct {
	from   *data.Container // nil: no /nacm
	schema *yang.Schema
	closed bool // it could not be compiled

	enabled, external                   bool
	readPermit, writePermit, execPermit bool
	groups                              map[string][]string // of a user
	lists                               []ruleList

	mu    sync.Mutex
	views map[string]*View
}

// maxViews bounds the views that a Policy keeps.
const maxViews = 1024

// View gives the policy as a user meets it. Views of equal users are shared.
func (p *Policy) View(u User) *View {
	if u.Recovery || !p.enabled && !p.closed {
		return &unrestricted
	}
	if p.closed {
		return &View{p: p, schema: p.schema, name: u.Name, closed: true}
	}
	key := u.Name + "\x00" + strings.Join(u.Groups, "\x00")
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.views[key]
	if v == nil {
		if len(p.views) >= maxViews {
			clear(p.views)
		}
		v = p.view(u)
		p.views[key] = v
	}
	return v
}

// unrestricted is the view of who is under no rule.
var unrestricted = View{all: true}
