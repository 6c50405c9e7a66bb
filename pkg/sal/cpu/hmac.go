package cpu

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
	"reflect"
	"unsafe"

	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// HMAC (RFC 2104) is H(key^opad || H(key^ipad || text)). Both keys fill one
// block of the hash, so an SA keeps the two states behind that block instead of
// the key, and a packet begins with them. The standard library's crypto/hmac
// does the same, but is an object on the heap for each SA.

// hashKind is a hash as HMAC uses it. Sizes are in bytes.
type hashKind struct {
	new   func() hash.Hash
	head  int // of a marshalled state: what differs from SA to SA
	total int // of a marshalled state
}

// The hashes, by what record.mac says.
const (
	noMAC uint8 = iota
	macSHA1
	macSHA256
	macSHA384
	macSHA512
	nMACs
)

var hashKinds = [nMACs]hashKind{
	macSHA1:   {sha1.New, 4 + 20, 4 + 20 + 64 + 8},
	macSHA256: {sha256.New, 4 + 32, 4 + 32 + 64 + 8},
	macSHA384: {sha512.New384, 4 + 64, 4 + 64 + 128 + 8},
	macSHA512: {sha512.New, 4 + 64, 4 + 64 + 128 + 8},
}

var macOf = map[sal.Integrity]uint8{sal.HMACSHA1_96: macSHA1, sal.HMACSHA2_256_128: macSHA256,
	sal.HMACSHA2_384_192: macSHA384, sal.HMACSHA2_512_256: macSHA512}

// macKeys are an SA's two states, as the standard library marshals them, without
// what is the same for all: an empty buffer and a length of one block.
type macKeys struct{ inner, outer [4 + 64]byte }

// expand makes the states of a key.
func (k *macKeys) expand(kind uint8, key []byte) error {
	x := &hashKinds[kind]
	h := x.new()
	defer wipeValue(h)
	pad, state := make([]byte, h.BlockSize()), make([]byte, 0, x.total)
	defer func() {
		mem.Wipe(pad)
		mem.Wipe(state[:cap(state)])
	}()
	for _, half := range []struct {
		to  []byte
		xor byte
	}{{k.inner[:], 0x36}, {k.outer[:], 0x5c}} {
		clear(pad)
		copy(pad, key) // never longer than a block
		for i := range pad {
			pad[i] ^= half.xor
		}
		h.Reset()
		h.Write(pad)
		m, ok := h.(encoding.BinaryAppender)
		if !ok {
			return fmt.Errorf("a hash whose state cannot be kept: %w", sal.ErrNotSupported)
		}
		s, err := m.AppendBinary(state)
		if err != nil || len(s) != x.total || &s[0] != &state[:1][0] {
			return fmt.Errorf("a hash whose state has another form: %w", sal.ErrNotSupported)
		}
		copy(half.to, s[:x.head])
	}
	return nil
}

// mac is a queue's hash of one kind, and the marshalled state it begins from.
type mac struct {
	h     hash.Hash
	begin encoding.BinaryUnmarshaler // h
	state []byte
	head  int
	sum   []byte
	used  bool
}

// newMAC makes a hash in memory of the queue.
func newMAC(kind uint8, a *arena) mac {
	x := &hashKinds[kind]
	h := a.move(x.new()).(hash.Hash)
	m := mac{h: h, head: x.head, state: a.bytes(x.total), sum: a.bytes(h.Size())}
	m.begin, _ = h.(encoding.BinaryUnmarshaler)
	binary.BigEndian.PutUint64(m.state[x.total-8:], uint64(h.BlockSize()))
	return m
}

// over gives HMAC over text and, if any, more. The result is good until the
// next call.
func (m *mac) over(k *macKeys, text, more []byte) []byte {
	m.used = true
	m.from(k.inner[:])
	m.h.Write(text)
	if len(more) > 0 {
		m.h.Write(more)
	}
	in := m.h.Sum(m.sum[:0])
	m.from(k.outer[:])
	m.h.Write(in)
	return m.h.Sum(m.sum[:0])
}

func (m *mac) from(state []byte) {
	copy(m.state, state[:m.head])
	// expand has seen that the form is right, so this cannot fail.
	_ = m.begin.UnmarshalBinary(m.state)
}

// forget wipes what a hash has seen of keys.
func (m *mac) forget() {
	if !m.used {
		return
	}
	m.used = false
	m.h.Reset()
	clear(m.state[:m.head])
}

// arena hands out memory that is kept out of core files and is wiped at its end.
type arena struct {
	r    *mem.Region
	used int
}

func newArena(size int) (*arena, error) {
	r, err := mem.MapSecret(size, mem.Options{SmallPages: true})
	if err != nil {
		return nil, err
	}
	return &arena{r: r}, nil
}

// bytes gives n bytes at the beginning of a line.
func (a *arena) bytes(n int) []byte {
	b := a.r.Bytes()[a.used : a.used+n : a.used+n]
	a.used += (n + lineLen - 1) &^ (lineLen - 1)
	return b
}

// move takes what v points at out of the heap, if it is flat; else v stays.
func (a *arena) move(v any) any {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || !flat(p.Type().Elem()) {
		return v
	}
	to := reflect.NewAt(p.Type().Elem(), unsafe.Pointer(unsafe.SliceData(a.bytes(int(p.Type().Elem().Size())))))
	to.Elem().Set(p.Elem())
	p.Elem().SetZero()
	return to.Interface()
}
