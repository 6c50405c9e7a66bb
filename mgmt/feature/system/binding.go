// Package system is the management side of the data plane as a whole: the
// global settings of vrouter-fastpath, its process, workers, buffers and drops,
// and the engines of vrouter-sal.
package system

import (
	"vrouter/mgmt/binding"
	"vrouter/mgmt/internal/schema/fastpath"
	"vrouter/mgmt/internal/schema/fill"
	"vrouter/mgmt/yang"
)

const (
	root = "/vrouter-fastpath:fastpath"
	sal  = "/vrouter-sal:sal"

	alarm = sal + "/alarm"
)

// Binding is the binding.Binding of the data plane itself.
type Binding struct {
	schema   *yang.Schema
	top, sal *yang.Node
	alarm    *yang.Node
	fill     *fill.Filler[fastpath.Fastpath_Fastpath]
	state    binding.Reader
	restarts func() int
}

// New makes the binding of a schema. restarts tells how often the data plane
// had to be started again.
func New(s *yang.Schema, r binding.Reader, restarts func() int) (*Binding, error) {
	b := &Binding{schema: s, top: s.Find(root), sal: s.Find(sal), alarm: s.Find(alarm), state: r, restarts: restarts}
	var err error
	if b.fill, err = fill.New[fastpath.Fastpath_Fastpath](b.top); err != nil {
		return nil, err
	}
	return b, nil
}

// Name implements binding.Binding.
func (b *Binding) Name() string { return "global" }

// Owns implements binding.Binding.
func (b *Binding) Owns() []string {
	return []string{root + "/worker/polling", root + "/worker/count", root + "/worker/core", root + "/worker/spreading", alarm}
}
