// Package gcm seals and opens bursts of packets by AES-GCM (NIST SP 800-38D) with
// 12-byte nonces, each packet under a key of its own, in one call: Go assembly for
// processors with VAES and AVX-512, with VAES and AVX2, and with AES-NI (Level).
// Keys, key sizes and lengths may differ from job to job.
//
// The time and the addresses that are touched depend on lengths and on which key
// is used, never on keys or data: rounds are instructions, the only table is one
// of counters, indexed by position.
//
// Memory is handed over by address and must not be the Go heap's: contexts and
// packets lie in mapped memory (or are pinned). No register keeps a key or text
// after a call.
package gcm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"
)

//go:generate go run ./gen -out gcm_amd64.s -stubs stubs_amd64.go -pkg gcm

const (
	// MaxLen is the longest text in bytes: so much the counter table covers.
	MaxLen = 1 << 16
	// MaxAAD is the longest additional data in bytes.
	MaxAAD = 16
	// TagSize is the length of the tag in bytes.
	TagSize = 16
	// NonceSize is the length of a nonce in bytes.
	NonceSize = 12

	// Powers is how many powers of the hash key a context holds. Texts of up to
	// 16*(Powers-2) bytes do with one reduction, longer ones take one for each 256
	// bytes (128 below VAES512); with thousands of keys more powers cost more cache than they save.
	Powers = 40
	// Align is how contexts must be aligned.
	Align = 64

	below = Powers * 16 // a multiple of Align
)

// ErrUnsupported: the processor has not what the kernels need.
var ErrUnsupported = errors.New("gcm: the processor lacks the instructions")

// Key is the address of an expanded key: a header and the round keys, with the
// powers of the hash key below it.
type Key uintptr

// KeyAt is the key whose context lies at address mem.
func KeyAt(mem uintptr) Key { return Key(mem + below) }

// Job is one packet: 64 bytes, one cache line.
type Job struct {
	Key   Key
	Text  uintptr  // worked on in place; TagSize bytes behind it are the tag
	Len   uint32   // of the text, at most MaxLen
	AADn  uint32   // length of AAD, at most MaxAAD
	Nonce [16]byte // NonceSize bytes, then zeros
	AAD   [16]byte // padded with zeros
	Bad   uint64   // Open: the tag was wrong
}

// Supported tells whether there are kernels for the processor.
func Supported() bool { return best != None }

// ContextSize is how many bytes a key of 16, 24 or 32 bytes takes when expanded,
// a multiple of Align.
func ContextSize(keyLen int) int { return below + (16+16*(rounds(keyLen)+1)+63)&^63 }

func rounds(keyLen int) int { return keyLen/4 + 6 }

// Expand writes a key's context into mem, which is aligned to Align and at least
// ContextSize long. The caller wipes mem when the key is no longer used.
func Expand(mem, key []byte) (Key, error) {
	if !Supported() {
		return 0, ErrUnsupported
	}
	switch len(key) {
	case 16, 24, 32:
	default:
		return 0, fmt.Errorf("gcm: a key of %d bytes", len(key))
	}
	if len(mem) < ContextSize(len(key)) || uintptr(unsafe.Pointer(&mem[0]))%Align != 0 {
		return 0, fmt.Errorf("gcm: a context of %d bytes at %#x", len(mem), uintptr(unsafe.Pointer(&mem[0]))%Align)
	}
	anchor := mem[below:]
	binary.LittleEndian.PutUint32(anchor, Powers)
	binary.LittleEndian.PutUint32(anchor[4:], uint32(rounds(len(key))))
	expand(anchor[16:], key)

	var h [16]byte
	hashKey(&h[0], &anchor[16], rounds(len(key)))
	setHash(anchor, h[:])
	clear(h[:])
	return KeyAt(uintptr(unsafe.Pointer(&mem[0]))), nil
}

// setHash writes the powers of the hash key h below the anchor.
func setHash(anchor, h []byte) {
	// The kernels multiply bit-reflected values: H times x.
	hi, lo := binary.BigEndian.Uint64(h), binary.BigEndian.Uint64(h[8:])
	top := -(hi >> 63)
	var x [16]byte
	binary.LittleEndian.PutUint64(x[:], lo<<1^top&1)
	binary.LittleEndian.PutUint64(x[8:], (hi<<1|lo>>63)^top&0xc200000000000000)
	powers(&anchor[0], &x[0], Powers)
	clear(x[:])
}

// RoundKeys writes the round keys of a key of 16, 24 or 32 bytes (FIPS 197 section
// 5.2) to dst, 16 bytes for each round and 16 more, in constant time. It panics where
// there are no kernels.
func RoundKeys(dst, key []byte) {
	if !Supported() {
		panic(ErrUnsupported)
	}
	expand(dst, key)
}

// expand writes the round keys (FIPS 197 section 5.2) to dst.
func expand(dst, key []byte) {
	nk := len(key) / 4
	copy(dst, key)
	rcon := uint32(1)
	for i := nk; i < 4*(rounds(len(key))+1); i++ {
		t := binary.LittleEndian.Uint32(dst[4*i-4:])
		switch {
		case i%nk == 0:
			t = subWord(t>>8|t<<24) ^ rcon
			rcon = rcon<<1 ^ rcon>>7*0x11b
		case nk > 6 && i%nk == 4:
			t = subWord(t)
		}
		binary.LittleEndian.PutUint32(dst[4*i:], binary.LittleEndian.Uint32(dst[4*(i-nk):])^t)
	}
}

// counters are the last words of counter blocks 2, 3, …, for whole blocks.
var counters = func() *byte {
	raw := make([]byte, MaxLen+256+Align)
	p := raw[-int(uintptr(unsafe.Pointer(&raw[0])))&(Align-1):]
	for i := range (MaxLen + 256) / 16 {
		binary.BigEndian.PutUint32(p[16*i+12:], uint32(i+2))
	}
	return &p[0]
}()

// Seal encrypts each job's text and writes its tag behind it, at the best level. A
// nonce must never be used twice under a key.
func Seal(jobs []Job) { best.Seal(jobs) }

// Open decrypts each job's text where the tag is right, at the best level. Where it
// is not, Bad is set and the text wiped. It gives the number of bad ones.
func Open(jobs []Job) (bad int) { return best.Open(jobs) }

// at turns an address into a pointer.
func at(a uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&a)) }
