package peers

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"net/netip"
	"os"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"vrouter/pkg/pkt"
)

// writeCaptures writes 256 packets whose IP packets are of n bytes, each of another flow: as they
// are, and in an ESP tunnel (RFC 4303, AES-128-GCM by RFC 4106, SPI 105).
func writeCaptures(plain, esp string, n int) error {
	key := make([]byte, 16)
	for i := range key {
		key[i] = byte(i)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	var in, out [][]byte
	for i := range 256 {
		udp := make([]byte, n-pkt.IPv4Len)
		binary.BigEndian.PutUint16(udp, uint16(1024+i))
		binary.BigEndian.PutUint16(udp[2:], 4000)
		binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
		inner := packet(netip.AddrFrom4([4]byte{10, 0, 0, byte(i%250 + 1)}), netip.AddrFrom4([4]byte{198, 18, byte(i % 16), byte(i%250 + 1)}), pkt.ProtoUDP, udp)
		in = append(in, inner)

		text := append([]byte{}, inner...)
		pad := -(len(inner) + 2) & 3
		for k := range pad {
			text = append(text, byte(k+1))
		}
		text = append(text, byte(pad), 4)
		head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 105), uint32(i+1))
		iv := binary.BigEndian.AppendUint64(nil, uint64(i+1))
		sealed := aead.Seal(nil, append([]byte{0xde, 0xad, 0xbe, 0xef}, iv...), text, head)
		out = append(out, packet(netip.MustParseAddr("172.16.1.5"), netip.MustParseAddr("172.16.2.5"), pkt.ProtoESP, append(append(head, iv...), sealed...)))
	}
	if err := writeCapture(plain, in); err != nil {
		return err
	}
	return writeCapture(esp, out)
}

func packet(src, dst netip.Addr, proto uint8, body []byte) []byte {
	b := append(make([]byte, pkt.IPv4Len), body...)
	ip := pkt.IPv4(b)
	ip.Set(src.As4(), dst.As4(), proto, 64, 0, len(b))
	ip.SetFrag(false, false, 0)
	ip.SetChecksum()
	return b
}

func writeCapture(name string, packets [][]byte) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	w := pcapgo.NewWriter(f)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		return err
	}
	for _, p := range packets {
		frame := append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}, p...)
		if err := w.WritePacket(gopacket.CaptureInfo{CaptureLength: len(frame), Length: len(frame)}, frame); err != nil {
			return err
		}
	}
	return nil
}
