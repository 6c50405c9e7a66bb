//go:build linux && amd64

package ipsecmb_test

import (
	"os"
	"testing"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/ipsecmb"
	"vrouter/pkg/sal/saltest"
)

func TestSuite(t *testing.T) {
	e, err := ipsecmb.New("mb0")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("the library is not there: ", err)
	}
	t.Log(e.Info().ISA)
	saltest.Run(t, func() sal.Device {
		e, err := ipsecmb.New("mb0")
		if err != nil {
			t.Fatal(err)
		}
		return e
	}, saltest.Options{Allocates: underRace})
}
