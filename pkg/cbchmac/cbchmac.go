// Package cbchmac seals and opens bursts of packets by AES-CBC (RFC 3602) with
// HMAC-SHA-256 cut to 128 bits (RFC 4868), encrypt-then-MAC as ESP has it, each packet
// under keys of its own, in one call. Keys, key sizes and lengths may differ from job
// to job.
//
// A chain and a hash are serial: one packet leaves a vector unit idle. So the packets
// of a burst are worked on beside each other, each in a lane of the registers; a
// lane whose packet is at its end is given the next one. Go code says which lane does
// what, Go assembly takes blocks from all of them (Level). Only decryption is
// parallel within a packet.
//
//	cbchmac.go  jobs and keys
//	level.go    which instructions
//	lanes.go    what the kernels read and write
//	mac.go      HMAC over a burst
//	chain.go    CBC over a burst
//
// The time and the addresses that are touched depend on lengths, on which key is
// used and on whether an ICV was right, never on keys or data: rounds are
// instructions, and the only tables are constants that are read in order.
//
// Memory is handed over by address and must not be the Go heap's: states, contexts and
// packets lie in mapped memory (or are pinned). Neither registers nor the state keep
// a key or text after a call.
package cbchmac

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"vrouter/pkg/gcm"
	"vrouter/pkg/mem"
)

//go:generate go run ./gen -out cbchmac_amd64.s -stubs stubs_amd64.go -pkg cbchmac

const (
	// MaxLen is the longest text in bytes, and the most that an ICV covers before it.
	MaxLen = 1 << 16
	// MaxJobs is how many jobs one call takes.
	MaxJobs = 1 << 16
	// BlockSize is the length of the cipher's blocks and of an IV in bytes.
	BlockSize = 16
	// ICVSize is the length of the ICV in bytes: half of a hash (RFC 4868 section 2.3).
	ICVSize = 16
	// MACKeySize is the length of the key of HMAC in bytes (RFC 4868 section 2.1.1).
	MACKeySize = 32

	// Align is how contexts and states must be aligned.
	Align = 64
	// ContextSize is how many bytes a key takes when expanded, a multiple of Align.
	ContextSize = 640
)

// A context: the number of rounds, the states that the inner and the outer hash
// begin from, round keys, and those of the inverse cipher. The kernels know it.
const (
	ctxInner = 16
	ctxOuter = 48
	ctxEnc   = 128
	ctxDec   = 384
)

// ErrUnsupported: the processor has not what the kernels need.
var ErrUnsupported = errors.New("cbchmac: the processor lacks the instructions")

// Key is the address of a context.
type Key uintptr

// KeyAt is the key whose context lies at address mem.
func KeyAt(mem uintptr) Key { return Key(mem) }

// Job is one packet.
type Job struct {
	Key  Key
	Text uintptr // worked on in place; the IV is in front of it, ICVSize bytes behind it are the ICV
	Len  uint32  // of the text, a multiple of BlockSize, at most MaxLen
	Head uint32  // the ICV covers so many bytes before the text, the IV among them
	// More is covered behind the text without being in the packet, if HasMore: the
	// upper half of the sequence number, in network byte order (RFC 4303 section 2.2.1).
	More    [4]byte
	HasMore uint32
	Bad     uint64 // Open: the ICV was wrong
}

// Expand writes a context to memory, which is aligned to Align and at least
// ContextSize long. The cipher's key has 16, 24 or 32 bytes, that of HMAC MACKeySize.
// The caller wipes it when the keys are no longer used.
func Expand(to, key, macKey []byte) (Key, error) {
	if !SHANI.Supported() {
		return 0, ErrUnsupported
	}
	switch len(key) {
	case 16, 24, 32:
	default:
		return 0, fmt.Errorf("cbchmac: a key of %d bytes", len(key))
	}
	if len(macKey) != MACKeySize {
		return 0, fmt.Errorf("cbchmac: a key of %d bytes for HMAC", len(macKey))
	}
	if len(to) < ContextSize || uintptr(unsafe.Pointer(&to[0]))%Align != 0 {
		return 0, fmt.Errorf("cbchmac: a context of %d bytes at %#x", len(to), uintptr(unsafe.Pointer(&to[0]))%Align)
	}
	rounds := len(key)/4 + 6
	clear(to[:ContextSize])
	binary.LittleEndian.PutUint32(to, uint32(rounds))
	gcm.RoundKeys(to[ctxEnc:ctxDec], key)
	invert(&to[ctxDec], &to[ctxEnc], rounds)
	if err := midstates(to[ctxInner:], to[ctxOuter:], macKey); err != nil {
		clear(to[:ContextSize])
		return 0, fmt.Errorf("cbchmac: memory for a key: %w", err)
	}
	return KeyAt(uintptr(unsafe.Pointer(&to[0]))), nil
}

// Seal encrypts each job's text and writes its ICV behind it, by the instructions of
// level l, which it panics at when the processor has not got them.
//
// The caller writes a nonce of BlockSize bytes where the IV goes, one never used
// before with the key. It is encrypted like a block of text with nothing before it,
// which makes it an IV that nobody can predict (NIST SP 800-38A appendix C, the first
// way).
func (s *State) Seal(l Level, jobs []Job) {
	if len(jobs) == 0 {
		return
	}
	l.check(jobs)
	s.encrypt(l, jobs)
	s.mac(l, jobs, false)
}

// Open compares each job's ICV and decrypts the text where it is right. Where it is
// not, Bad is set and the packet left as it came. It gives the number of bad ones.
func (s *State) Open(l Level, jobs []Job) (bad int) {
	if len(jobs) == 0 {
		return 0
	}
	l.check(jobs)
	bad = s.mac(l, jobs, true)
	if bad < len(jobs) {
		decrypt(l, jobs)
	}
	return bad
}

// check keeps the kernels within packets and counters.
func (l Level) check(jobs []Job) {
	if l == None || !l.Supported() {
		panic(ErrUnsupported)
	}
	if len(jobs) > MaxJobs {
		panic("cbchmac: too many jobs")
	}
	for i := range jobs {
		if j := &jobs[i]; j.Len > MaxLen || j.Len%BlockSize != 0 || j.Head > MaxLen || j.Head < BlockSize {
			panic("cbchmac: a job has a length that cannot be")
		}
	}
}

// rounds is the number of rounds of the key's cipher.
func (k Key) rounds() int { return int(mem.Load32(mem.At(uintptr(k)), 0)) }
