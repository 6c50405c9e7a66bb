package cpu_test

import (
	"errors"
	"testing"

	"vrouter/pkg/gcm"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/saltest"
)

// TestSuite is the engine at each level of instructions that the processor has.
func TestSuite(t *testing.T) {
	for _, l := range gcm.Levels() {
		t.Run(l.String(), func(t *testing.T) {
			saltest.Run(t, func() sal.Device {
				e, err := cpu.NewLevel("cpu0", l)
				if err != nil {
					t.Fatal(err)
				}
				return e
			})
		})
	}
}

// TestSuitePortable is what processors get that New has nothing better for.
func TestSuitePortable(t *testing.T) {
	saltest.Run(t, func() sal.Device { return cpu.NewPortable("cpu0") })
}

// TestLevels wants New to take the best level, each to say by what it works, and
// none to be taken that the processor has not.
func TestLevels(t *testing.T) {
	seen := map[string]gcm.Level{}
	for l := gcm.None; l <= gcm.VAES512+1; l++ {
		e, err := cpu.NewLevel("cpu0", l)
		if !l.Supported() {
			if !errors.Is(err, gcm.ErrUnsupported) {
				t.Errorf("%v: %v", l, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		isa := e.Info().ISA
		if other, twice := seen[isa]; twice {
			t.Errorf("%v and %v both call themselves %q", l, other, isa)
		}
		seen[isa] = l
	}
	if best := cpu.New("cpu0").Info().ISA; seen[best] != gcm.Best() {
		t.Errorf("New works by %s, not at level %v", best, gcm.Best())
	}
}
