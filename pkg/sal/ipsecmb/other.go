//go:build !(linux && amd64)

// Package ipsecmb is an engine that has Intel's multi-buffer library do the work;
// there is no such library for this platform.
package ipsecmb

import (
	"fmt"

	"vrouter/pkg/sal"
)

// New fails: the library is for processors that this is none of.
func New(string) (sal.Device, error) {
	return nil, fmt.Errorf("ipsec-mb on this platform: %w", sal.ErrNotSupported)
}
