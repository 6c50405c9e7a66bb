//go:build linux && amd64

package ipsecmb

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/session"
)

// record is an SA in mapped memory, which is kept out of core files.
type record struct {
	state atomic.Uint32 // free, live or deleted
	op    sal.Op        // the one operation this SA does
	esn   bool
	aead  bool
	iv    uint8 // lengths, in bytes
	icv   uint8
	block uint8 // what the text's length is a multiple of, 1: anything
	salt  [4]byte
	// What the library calls cipher, key's length and hash.
	cipher, keyLen, hash uint32

	packets, bytes atomic.Uint64
	errors         [16]atomic.Uint64
	_              [16]byte

	inner, outer [64]byte // states of HMAC
	// keys are struct gcm_key_data, or AES schedules for encryption and behind them
	// for decryption, or the key of ChaCha20.
	keys [1024]byte
}

// The library reads states and keys by lines, and 21 lines spread over all sets of
// a cache.
var (
	_ [21*64 - recLen]struct{}
	_ [recLen - 21*64]struct{}
	_ [-(unsafe.Offsetof(record{}.inner) % 64)]struct{}
)

const (
	recLen    = int(unsafe.Sizeof(record{}))
	chunkSAs  = mem.HugePage / recLen
	maxChunks = 512
)

// States of a record.
const (
	free uint32 = iota
	live
	deleted
)

// records are the SAs of a session, by handle.
type records struct {
	e       *Engine
	s       *session.Session
	chunks  [maxChunks]atomic.Pointer[[chunkSAs]record]
	regions []*mem.Region
	scratch *mem.Region // of Install
}

func newRecords(e *Engine, s *session.Session) (*records, error) {
	m, err := mem.MapSecret(512, mem.Options{SmallPages: true})
	if err != nil {
		return nil, fmt.Errorf("memory for keys: %v: %w", err, sal.ErrFull)
	}
	return &records{e: e, s: s, scratch: m}, nil
}

// at is a record, nil for a handle that was never given out.
func (r *records) at(h sal.SA) *record {
	if h/sal.SA(chunkSAs) >= maxChunks {
		return nil
	}
	c := r.chunks[h/sal.SA(chunkSAs)].Load()
	if c == nil {
		return nil
	}
	return &c[h%sal.SA(chunkSAs)]
}

// Check holds a config against Caps.
func (r *records) Check(c *sal.SAConfig) error { return session.CheckCrypto(c) }

// Room maps the chunk of a record.
func (r *records) Room(h sal.SA) error {
	k := h / sal.SA(chunkSAs)
	if r.chunks[k].Load() != nil {
		return nil
	}
	m, err := mem.MapSecret(chunkSAs*recLen, mem.Options{})
	if err != nil {
		return fmt.Errorf("memory for SAs: %v: %w", err, sal.ErrFull)
	}
	r.regions = append(r.regions, m)
	r.chunks[k].Store((*[chunkSAs]record)(m.Ptr()))
	return nil
}

// ciphers and hashes are the library's names.
var (
	ciphers = map[sal.Algorithm]uint32{sal.Null: cipherNull, sal.AESCBC: cipherCBC, sal.AESCTR: cipherCTR,
		sal.AESGCM16: cipherGCM, sal.ChaCha20Poly1305: cipherChaCha}
	hashes = map[sal.Integrity]uint32{sal.HMACSHA1_96: hashSHA1, sal.HMACSHA2_256_128: hashSHA256,
		sal.HMACSHA2_384_192: hashSHA384, sal.HMACSHA2_512_256: hashSHA512}
)

// Install expands the keys into the record. The library reads them from memory
// that is kept out of core files, and is wiped here.
func (r *records) Install(h sal.SA, c *sal.SAConfig) error {
	shape, _ := c.Algorithm.Shape()
	lay, err := c.Layout()
	if err != nil {
		return err
	}
	x := r.at(h)
	defer mem.Wipe(r.scratch.Bytes())
	key := r.scratch.Bytes()[:len(c.Key)-shape.Salt]
	copy(key, c.Key)
	copy(x.salt[:], c.Key[len(key):])
	x.op, x.esn, x.aead = sal.Seal, c.ESN, shape.AEAD
	if c.Direction == sal.Inbound {
		x.op = sal.Open
	}
	x.iv, x.icv, x.block = uint8(lay.IV), uint8(lay.ICV), 1
	x.cipher, x.keyLen, x.hash = ciphers[c.Algorithm], uint32(len(key)), hashes[c.Integrity]
	keys := r.scratch.Addr()
	to := uintptr(unsafe.Pointer(&x.keys))
	switch c.Algorithm {
	case sal.AESGCM16:
		x.hash = hashGMAC
		call(r.e.lib.gcmPre[len(key)], keys, to)
	case sal.ChaCha20Poly1305:
		x.hash = hashPoly1305
		copy(x.keys[:], key)
	case sal.AESCBC:
		x.block = 16
		call(r.e.lib.expand[len(key)], keys, to, to+aesKeyLen)
	case sal.AESCTR:
		call(r.e.lib.expand[len(key)], keys, to, to+aesKeyLen)
	}
	if !shape.AEAD {
		r.states(x, c)
	}
	x.state.Store(live)
	return nil
}

// states makes the states of the hash behind the first block of HMAC's two hashes
// (RFC 2104): the key, xored with one of two constants.
func (r *records) states(x *record, c *sal.SAConfig) {
	block := r.scratch.Bytes()[:64]
	if c.Integrity == sal.HMACSHA2_384_192 || c.Integrity == sal.HMACSHA2_512_256 {
		block = r.scratch.Bytes()[:128]
	}
	for _, half := range []struct {
		to  *[64]byte
		xor byte
	}{{&x.inner, 0x36}, {&x.outer, 0x5c}} {
		clear(block)
		copy(block, c.IntegrityKey) // never longer than a block
		for i := range block {
			block[i] ^= half.xor
		}
		call(r.e.lib.oneBlock[c.Integrity], r.scratch.Addr(), uintptr(unsafe.Pointer(half.to)))
	}
}

// Stop makes the record unusable.
func (r *records) Stop(h sal.SA) { r.at(h).state.Store(deleted) }

// Wipe forgets what is in the record.
func (r *records) Wipe(h sal.SA) {
	x := r.at(h)
	// A late job may still ask whether the SA is live, and nothing else of it.
	x.state.Store(free)
	mem.Wipe(unsafe.Slice((*byte)(unsafe.Pointer(x)), recLen)[unsafe.Sizeof(x.state):])
}

// Stats reads the record's counters.
func (r *records) Stats(h sal.SA) (s sal.SAStats) {
	x := r.at(h)
	s.Packets, s.Bytes = x.packets.Load(), x.bytes.Load()
	for i := range s.Errors {
		s.Errors[i] = x.errors[i].Load()
	}
	return s
}

// Close wipes all records.
func (r *records) Close() {
	for k := range r.chunks {
		r.chunks[k].Store(nil)
	}
	for _, m := range append(r.regions, r.scratch) {
		_ = m.Unmap() // wipes; memory that cannot be unmapped is no one's loss
	}
	r.regions = nil
}

// end books how a job went.
func (x *record) end(j *sal.Job, s sal.Status) {
	if j.Status = s; s != sal.StatusOK {
		x.errors[s&15].Add(1)
		return
	}
	x.packets.Add(1)
	x.bytes.Add(uint64(j.Len))
}
