package fastpath

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
	"reflect"
)

// DigestOf is the digest of an object's Config (a value or a pointer to one)
// under the key of a fastpathd process (Caps.DigestKey): HMAC-SHA256, cut to 16
// bytes. Equal configurations have equal digests; a nil and an empty slice are
// equal. It panics for types that no Config has (maps, functions, channels,
// floats).
func DigestOf(key [16]byte, obj any) Digest {
	h := hmac.New(sha256.New, key[:])
	feed(h, reflect.ValueOf(obj))
	return Digest(h.Sum(nil)[:len(Digest{})])
}

// feed writes a value in a form that is the same for equal values only: fixed
// sizes, and the length before whatever varies.
func feed(h hash.Hash, v reflect.Value) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			h.Write([]byte{0})
			return
		}
		v = v.Elem()
	}
	if m, ok := v.Interface().(encoding.BinaryMarshaler); ok { // netip's types hide their fields
		b, err := m.MarshalBinary()
		if err != nil {
			panic(fmt.Sprintf("fastpath: digest of %v: %v", v.Type(), err))
		}
		number(h, uint64(len(b)))
		h.Write(b)
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			number(h, 1)
		} else {
			number(h, 0)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		number(h, uint64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		number(h, v.Uint())
	case reflect.String:
		number(h, uint64(v.Len()))
		h.Write([]byte(v.String()))
	case reflect.Slice:
		number(h, uint64(v.Len()))
		if v.Type().Elem().Kind() == reflect.Uint8 {
			h.Write(v.Bytes())
			return
		}
		for i := range v.Len() {
			feed(h, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			feed(h, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			feed(h, v.Field(i))
		}
	default:
		panic(fmt.Sprintf("fastpath: digest of %v", v.Type()))
	}
}

func number(h hash.Hash, n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	h.Write(b[:])
}
