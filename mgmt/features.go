package mgmt

import (
	"vrouter/mgmt/binding"
	"vrouter/mgmt/feature/iface"
	"vrouter/mgmt/feature/ipsec"
	"vrouter/mgmt/feature/neigh"
	"vrouter/mgmt/feature/route"
	"vrouter/mgmt/feature/system"
	"vrouter/mgmt/nacm"
	"vrouter/mgmt/yang"
)

// features is THE ordered list of bindings: each translates its part of a
// commit, and is asked for its state, in this order. restarts tells how often
// the data plane had to be started again; rules are those of access control.
func features(s *yang.Schema, r binding.Reader, restarts func() int, rules *nacm.Control) ([]binding.Binding, error) {
	makers := []func() (binding.Binding, error){
		// Access rules are not for the data plane; what is wrong with them is told
		// before it is asked for anything.
		func() (binding.Binding, error) { return rules, nil },
		// What concerns the data plane as a whole stands on nothing else.
		func() (binding.Binding, error) { return system.New(s, r, restarts) },
		// Interfaces before all that names one: of several errors, the first is
		// then the cause.
		func() (binding.Binding, error) { return iface.New(s, r) },
		// Neighbours and routes stand on interfaces.
		func() (binding.Binding, error) { return neigh.New(s, r) },
		func() (binding.Binding, error) { return route.New(s) },
		// Policies and SAs name addresses and engines, no other objects.
		func() (binding.Binding, error) { return ipsec.New(s, r) },
	}
	var list []binding.Binding
	for _, f := range makers {
		b, err := f()
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}
