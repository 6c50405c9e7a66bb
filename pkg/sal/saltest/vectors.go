package saltest

import (
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

//go:embed testdata/aes-gcm-esp.txt
var aesGCMESP string

// Vector is a known answer of AES-GCM-16 in ESP.
type Vector struct {
	Name           string
	Key            []byte // cipher key and salt
	IV             uint64
	SPI, SeqHi     uint32
	Seq            uint32
	ESN            bool
	Text, Out, ICV []byte // Out is cipher text and ICV; nil where only ICV is known
}

// Vectors are the known answers; testdata/aes-gcm-esp.txt says where they are
// from.
func Vectors() []Vector {
	var l []Vector
	for _, rec := range strings.Split(aesGCMESP, "\n\n") {
		f := map[string]string{}
		for _, line := range strings.Split(rec, "\n") {
			if k, v, ok := strings.Cut(line, " "); ok && !strings.HasPrefix(line, "#") {
				f[k] = strings.TrimSpace(v)
			}
		}
		if f["name"] == "" {
			continue
		}
		v := Vector{Name: f["name"], Key: append(unhex(f["key"]), unhex(f["salt"])...), IV: binary.BigEndian.Uint64(unhex(f["iv"]))}
		a := unhex(f["aad"])
		v.SPI, v.Seq, v.ESN = binary.BigEndian.Uint32(a), binary.BigEndian.Uint32(a[len(a)-4:]), len(a) == 12
		if v.ESN {
			v.SeqHi = binary.BigEndian.Uint32(a[4:])
		}
		var n int
		if _, err := fmt.Sscanf(f["text"], "pattern %d", &n); err == nil {
			v.Text = pattern(n)
		} else {
			v.Text = unhex(f["text"])
		}
		if f["icv"] != "" {
			v.ICV = unhex(f["icv"])
		} else {
			v.Out = unhex(f["out"])
			v.ICV = v.Out[len(v.Text):]
		}
		l = append(l, v)
	}
	return l
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("saltest: " + err.Error())
	}
	return b
}
