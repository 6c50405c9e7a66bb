package cpu_test

import (
	"testing"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/cpu"
	"vrouter/pkg/sal/saltest"
)

func TestSuite(t *testing.T) {
	saltest.Run(t, func() sal.Device { return cpu.New("cpu0") })
}

// TestSuitePortable is what processors get that New has nothing better for.
func TestSuitePortable(t *testing.T) {
	saltest.Run(t, func() sal.Device { return cpu.NewPortable("cpu0") })
}
