// Package schema compiles the router's YANG modules. The packages beside it
// are the typed view of configuration: structs that ygot made of a flattened
// view of the compiled schema, one package per subsystem (generator in gen).
// Package fill puts a part of the data tree into such a struct.
package schema

import (
	"slices"

	modules "vrouter/yang"

	"vrouter/mgmt/yang"
)

//go:generate go run ./gen

// Load compiles what the router implements, with its features and deviations.
// The modules are part of the program: an error is a bug.
func Load() (*yang.Schema, error) {
	on := modules.Features()
	return yang.Load(yang.Options{
		FS:       modules.FS,
		Features: func(module, feature string) bool { return slices.Contains(on[module], feature) },
	}, modules.Implemented()...)
}
