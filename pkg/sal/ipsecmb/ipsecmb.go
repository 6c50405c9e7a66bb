//go:build linux && amd64

// Package ipsecmb is an engine that has Intel's multi-buffer library
// (libipsec-mb) do the work, on the calling core. The library is loaded when the
// engine is made, without cgo; where it is not installed there is no engine, and
// nothing else is missing. It is there to compare with, and for ciphers that the
// library does many packets of at a time: AES-CBC and AES-CTR with HMAC.
//
//	ipsecmb.go  the engine
//	library.go  the library: what of it is called, and how its structures lie
//	records.go  what an SA is in memory
//	queue.go    the packet path
//
// Keys lie in memory that is kept out of core files, and so does the library's own
// manager of each queue.
package ipsecmb

import (
	"slices"
	"strings"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/session"
)

const (
	maxQueues = 64
	depth     = 4 * sal.Burst
	maxSAs    = maxChunks*chunkSAs - 1
)

// Engine implements sal.Device.
type Engine struct {
	session.Host
	lib *library
}

// New loads the library and makes an engine. An error says what of it is missing,
// or that it is of a version whose structures are not known; then there is nothing
// to close.
func New(name string) (*Engine, error) {
	lib, err := load()
	if err != nil {
		return nil, err
	}
	e := &Engine{Host: session.Host{Name: name, Queues: maxQueues, MaxSAs: maxSAs}, lib: lib}
	e.Records = func(s *session.Session) (session.Records, error) { return newRecords(e, s) }
	return e, nil
}

// Info describes the engine.
func (e *Engine) Info() sal.DeviceInfo {
	return e.Fill(sal.DeviceInfo{Driver: "ipsec-mb", Kind: sal.Software, ISA: e.isa(), NUMANode: -1})
}

func (e *Engine) isa() string {
	return strings.TrimSpace("ipsec-mb " + e.lib.version + " " + e.lib.arch)
}

// Caps lists what the engine can do.
func (e *Engine) Caps() sal.Caps {
	c := sal.Caps{
		Modes:      []sal.Mode{sal.ModeCrypto},
		Integrity:  []sal.Integrity{sal.HMACSHA1_96, sal.HMACSHA2_256_128, sal.HMACSHA2_384_192, sal.HMACSHA2_512_256},
		ESN:        true,
		Sync:       true,
		MaxSAs:     maxSAs,
		Queues:     maxQueues,
		Groups:     true,
		QueueDepth: depth,
	}
	for _, a := range []sal.Algorithm{sal.Null, sal.AESCBC, sal.AESCTR, sal.AESGCM16, sal.ChaCha20Poly1305} {
		s, _ := a.Shape()
		c.Algorithms = append(c.Algorithms, sal.AlgorithmCaps{Algorithm: a, KeyBits: slices.Clone(s.KeyBits), IVLen: s.IV, ICVLen: s.ICV, Align: s.Align})
	}
	return c
}
