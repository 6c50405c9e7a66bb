//go:build linux

package afalg_test

import (
	"os"
	"testing"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/afalg"
	"vrouter/pkg/sal/saltest"
)

// TestSuite runs where the kernel has crypto sockets. Where it has none, as in many
// a container's, cmd/e2e runs it in a guest.
func TestSuite(t *testing.T) {
	e, err := afalg.New("kernel")
	if err != nil {
		if os.Getenv("AF_ALG") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for _, a := range e.Caps().Algorithms {
		t.Log(a.Algorithm)
	}
	t.Log(e.Caps().Integrity)
	saltest.Run(t, func() sal.Device {
		e, err := afalg.New("kernel")
		if err != nil {
			t.Fatal(err)
		}
		return e
	})
}
