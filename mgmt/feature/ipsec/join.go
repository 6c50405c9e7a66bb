package ipsec

import (
	"fmt"
	"slices"

	"vrouter/fastpath/feature/ipsec"
	"vrouter/mgmt/data"
	"vrouter/pkg/sal"
)

// join compares what SPD entries say about their SAs with these, for the pairs
// of which the commit has translated at least one.
func (t *translation) join() {
	seen := map[[2]string]bool{}
	pair := func(policy, sa string) {
		if k := [2]string{policy, sa}; !seen[k] {
			seen[k] = true
			t.compare(policy, sa)
		}
	}
	for _, name := range t.policies {
		if p, ok := t.ch.policies.Get(name); ok && p.demanding() {
			names := t.ch.users.Members(p.reqid)
			slices.Sort(names)
			for _, s := range names {
				pair(name, s)
			}
		}
	}
	for _, name := range t.sas {
		if s, ok := t.ch.sas.Get(name); ok {
			names := t.ch.byReqid.Members(s.reqid)
			slices.Sort(names)
			for _, p := range names {
				pair(p, name)
			}
		}
	}
}

// demanding tells whether an SPD entry says anything about its SAs.
func (p *policy) demanding() bool {
	return p.esn != nil || p.window != nil || len(p.algorithms)+len(p.integrity) > 0
}

// takes tells whether an SPD entry may use an SA of its reqid: it must be of the same
// mode, and of the same tunnel, or in transport mode between addresses of the entry.
func (p *policy) takes(s *sa) bool {
	switch {
	case p.mode != s.mode:
		return false
	case p.mode == ipsec.Transport:
		return p.near.Contains(s.local) && p.far.Contains(s.remote)
	}
	return p.local == s.local && p.remote == s.remote
}

// compare refuses a contradiction between an SPD entry and an SA that it may use. Sequence numbers and algorithms are those of the SAs that go
// the entry's way; the replay window is always that of what comes in.
func (t *translation) compare(policy, name string) {
	p, _ := t.ch.policies.Get(policy)
	s, _ := t.ch.sas.Get(name)
	if !p.demanding() || !p.takes(s) {
		return
	}
	bad := func(inPolicy, inSA, msg string, args ...any) {
		at := t.b.pathOf(t.b.sad, name) + inSA
		if slices.Contains(t.policies, policy) && !slices.Contains(t.sas, name) {
			at = t.b.pathOf(t.b.spd, policy) + inPolicy
		}
		t.bad(&data.Error{Tag: "invalid-value", Path: at,
			Msg: fmt.Sprintf("SPD entry %q and SA %q contradict each other: ", policy, name) + fmt.Sprintf(msg, args...)})
	}
	if p.window != nil && s.dir == sal.Inbound && *p.window != s.window {
		bad("/ipsec-policy-config/anti-replay-window-size", saConfig+"/anti-replay-window-size",
			"anti-replay-window-size is %d in the one and %d in the other", *p.window, s.window)
	}
	if p.dir != s.dir {
		return
	}
	if p.esn != nil && *p.esn != s.esn {
		bad(policySA+"/ext-seq-num", saConfig+"/ext-seq-num", "ext-seq-num is %t in the one and %t in the other", *p.esn, s.esn)
	}
	if len(p.algorithms) > 0 && !slices.Contains(p.algorithms, s.algorithm) {
		bad(policySA+"/esp-algorithms", saConfig+"/esp-sa/encryption",
			"the SA has algorithm %d with %d bits of key, which is not among the esp-algorithms", uint16(s.algorithm.number), s.algorithm.bits)
	}
	// An AEAD fits with whatever stands there: its integrity is its own.
	if shape, _ := s.algorithm.number.Shape(); len(p.integrity) > 0 && !shape.AEAD && !slices.Contains(p.integrity, s.integrity) {
		bad(policySA+"/esp-algorithms/integrity", saESP+"/integrity",
			"the SA has integrity algorithm %d, which is not among the esp-algorithms", uint16(s.integrity))
	}
}
