// Package cpu is the SAL's software engine: it does the work on the calling
// core. It offers sal.ModeCrypto with all of sal's algorithms, with and without
// extended sequence numbers: AES-GCM-16 (RFC 4106), AES-CBC (RFC 3602), AES-CTR
// (RFC 3686) and NULL (RFC 2410) with HMAC (RFC 4868, RFC 2404) by the standard
// library, ChaCha20-Poly1305 (RFC 7634) by golang.org/x/crypto. AES-GCM is done by
// package gcm where the processor has what that takes, a burst at a time, and AES-CBC
// with HMAC-SHA2-256 by package cbchmac: NewLevel forces the instructions.
//
//	cpu.go      the engine: open, shared or alone, gone
//	records.go  the SAs of one session: chunks of records
//	record.go   what an SA is in memory, and how it is wiped
//	queue.go    the packet path
//	vector.go   what of it is for AES-GCM over bursts
//	chained.go  what of it is for AES-CBC with HMAC-SHA2-256 over bursts
//	other.go    what of it is for ciphers with HMAC
//	modes.go    CBC and CTR over single packets, IVs
//	hmac.go     HMAC over single packets; a queue's own memory
//
// # Memory
//
// An SA is one record of 17 cache lines in mapped memory that is kept out of
// core files, and out of swap where the process may lock memory; where it may not,
// the log says so once. Counters and salt are in the first line, then round keys
// and powers of the hash key as package gcm has them; or the key schedule and hash
// table of the standard library's AEAD, moved there out of the Go heap; or the key
// schedule of its AES and the two states that HMAC begins from; or both as package
// cbchmac has them. Ten thousand records
// are ten megabytes, more than the second-level cache, so a queue asks for the lines
// of the jobs ahead while it works on one.
//
// The standard library's CTR and its hashes are objects that change with each
// packet, so each queue has its own, in mapped memory of its own; after a burst
// what they have seen of keys is wiped.
//
// # Secrets
//
// When an SA is deleted its record is wiped, as soon as no queue can be using
// it. The copies that the standard library makes on the Go heap while it
// expands keys are wiped by AddSA. What cannot be wiped from here: bytes that
// the key expansion, and a hash at its end, leave on the stack and in registers.
// On platforms whose ciphers hold pointers (none with an assembly AES-GCM that Go
// supports except s390x and ppc64) these stay on the heap, and are only
// forgotten.
package cpu

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	xcpu "golang.org/x/sys/cpu"

	"vrouter/pkg/cbchmac"
	"vrouter/pkg/gcm"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/session"
)

const (
	maxQueues = 64
	depth     = 4 * sal.Burst
	maxSAs    = maxChunks*chunkSAs - 1
)

// Engine implements sal.Device; Open and Close are its host's.
type Engine struct {
	session.Host
	level gcm.Level     // AES-GCM over bursts, by package gcm; None: by the standard library
	cbc   cbchmac.Level // AES-CBC with HMAC-SHA2-256 likewise, by package cbchmac
}

// New makes an engine with the name given, which uses the best that the processor
// has.
func New(name string) *Engine {
	e := NewPortable(name)
	e.level = gcm.Best()
	e.cbc = cbchmac.Within(e.level)
	return e
}

// NewLevel makes an engine whose AES-GCM uses the instructions of the level given,
// or the standard library at gcm.None, and whose AES-CBC with HMAC-SHA2-256 takes no
// wider ones. It refuses a level that the processor has not.
func NewLevel(name string, level gcm.Level) (*Engine, error) {
	if !level.Supported() {
		return nil, fmt.Errorf("engine %s: AES-GCM at level %v: %w", name, level, gcm.ErrUnsupported)
	}
	e := New(name)
	e.level, e.cbc = level, cbchmac.Within(level)
	return e, nil
}

// NewPortable makes an engine that uses the standard library only, as New does
// where the processor has no better.
func NewPortable(name string) *Engine {
	e := &Engine{Host: session.Host{Name: name, Queues: maxQueues, MaxSAs: maxSAs}}
	e.Records = func(s *session.Session) (session.Records, error) { return &records{e: e, s: s}, nil }
	return e
}

// Info describes the engine.
func (e *Engine) Info() sal.DeviceInfo {
	return e.Fill(sal.DeviceInfo{Driver: "cpu", Kind: sal.Software, ISA: e.isa(), NUMANode: -1})
}

// isa tells people whether AES-GCM runs on instructions made for it; without
// them it is slow and not in constant time.
func (e *Engine) isa() string {
	switch e.level {
	case gcm.VAES512:
		return "VAES VPCLMULQDQ AVX-512"
	case gcm.VAES256:
		return "VAES VPCLMULQDQ AVX2"
	case gcm.AESNI:
		return "AES-NI PCLMULQDQ AVX"
	}
	switch {
	case xcpu.X86.HasAES && xcpu.X86.HasPCLMULQDQ:
		return "AES-NI PCLMULQDQ"
	case xcpu.ARM64.HasAES && xcpu.ARM64.HasPMULL:
		return "ARMv8 AES PMULL"
	}
	return strings.ToLower(runtime.GOARCH) + " generic"
}

// Caps lists what the engine can do.
func (e *Engine) Caps() sal.Caps {
	return sal.Caps{
		Modes:      []sal.Mode{sal.ModeCrypto},
		Algorithms: algorithms(),
		Integrity:  []sal.Integrity{sal.HMACSHA1_96, sal.HMACSHA2_256_128, sal.HMACSHA2_384_192, sal.HMACSHA2_512_256},
		ESN:        true,
		Sync:       true,
		MaxSAs:     maxSAs,
		Queues:     maxQueues,
		Groups:     true,
		QueueDepth: depth,
	}
}

func algorithms() (l []sal.AlgorithmCaps) {
	for _, a := range []sal.Algorithm{sal.Null, sal.AESCBC, sal.AESCTR, sal.AESGCM16, sal.ChaCha20Poly1305} {
		s, _ := a.Shape()
		l = append(l, sal.AlgorithmCaps{Algorithm: a, KeyBits: slices.Clone(s.KeyBits), IVLen: s.IV, ICVLen: s.ICV, Align: s.Align})
	}
	return l
}
