// Package ipsec is the management side of IPsec without IKE (RFC 9061): entries
// of the SPD and the SAD become ipsec.Policy and ipsec.SA, and back come the
// state of SAs and the counters of both.
//
// RFC 9061 describes in an SPD entry what the SAs must be like that protect its
// packets. Here the SAs are what is used, so what an SPD entry says about them
// explicitly (ext-seq-num, anti-replay-window-size, algorithms and key
// lengths) is compared with the SAs that it joins with, those with the same
// reqid and the same tunnel addresses, and a contradiction is refused. What the
// entry leaves to its defaults is left to the SAs.
package ipsec

import (
	"vrouter/mgmt/binding"
	"vrouter/mgmt/internal/schema/fill"
	view "vrouter/mgmt/internal/schema/ipsec"
	"vrouter/mgmt/yang"
)

const (
	root = "/ietf-i2nsf-ikeless:ipsec-ikeless"
	spd  = root + "/spd/spd-entry"
	sad  = root + "/sad/sad-entry"

	defaults = "/vrouter-sal:sal/default-offload"
	groups   = "/vrouter-sal:sal/tenant-group"
)

// Binding is the binding.Binding of IPsec.
type Binding struct {
	schema      *yang.Schema
	spd, sad    *yang.Node
	dscps       *yang.Node // the list of an SA's DSCP mapping
	offload     *yang.Node // of SAs that do not say it
	groups      *yang.Node // tenant groups
	policies    *fill.Filler[view.Ipsec_SpdEntry]
	explicit    *fill.Filler[view.Ipsec_SpdEntry]
	sas         *fill.Filler[view.Ipsec_SadEntry]
	explicitSAs *fill.Filler[view.Ipsec_SadEntry]
	state       binding.Reader

	known *databases
}

// New makes the binding of a schema.
func New(s *yang.Schema, r binding.Reader) (*Binding, error) {
	b := &Binding{schema: s, spd: s.Find(spd), sad: s.Find(sad), state: r, known: newDatabases()}
	b.offload, b.groups = s.Find(defaults), s.Find(groups)
	b.dscps = s.Find(sad + "/ipsec-sa-config/tunnel/dscp-mapping")
	var err error
	if b.policies, err = fill.New[view.Ipsec_SpdEntry](b.spd); err != nil {
		return nil, err
	}
	if b.explicit, err = fill.New[view.Ipsec_SpdEntry](b.spd, fill.Explicit()); err != nil {
		return nil, err
	}
	if b.sas, err = fill.New[view.Ipsec_SadEntry](b.sad); err != nil {
		return nil, err
	}
	if b.explicitSAs, err = fill.New[view.Ipsec_SadEntry](b.sad, fill.Explicit()); err != nil {
		return nil, err
	}
	return b, nil
}

// Name implements binding.Binding. Its objects are the fast path's features
// "policy", "sa" and "group".
func (b *Binding) Name() string { return "ipsec" }

// Owns implements binding.Binding.
func (b *Binding) Owns() []string { return []string{root, defaults, groups} }
