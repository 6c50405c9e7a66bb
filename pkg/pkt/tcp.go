package pkt

// TCP flags and options (RFC 9293 section 3.1).
const (
	tcpSYN  = 0x02
	tcpEnd  = 0 // option kinds
	tcpNop  = 1
	tcpMSS  = 2
	tcpOpts = 20 // where options begin
)

// TCPIsSYN tells whether a TCP segment opens a connection: SYN, or SYN and ACK.
func TCPIsSYN(tcp []byte) bool { return len(tcp) >= tcpOpts && tcp[13]&tcpSYN != 0 }

// ClampMSS lowers the maximum segment size that a SYN announces to at most mss,
// and keeps the checksum right by what has changed (RFC 1624). It says whether
// it has changed anything. Segments other than SYNs, those without the option
// (their default is small, RFC 9293 section 3.7.1), and those whose options
// are malformed before it, are left alone.
func ClampMSS(tcp []byte, mss uint16) bool {
	if !TCPIsSYN(tcp) {
		return false
	}
	end := int(tcp[12]>>4) * 4
	if end < tcpOpts || end > len(tcp) {
		return false
	}
	for at := tcpOpts; at < end; {
		switch kind := tcp[at]; {
		case kind == tcpEnd:
			return false
		case kind == tcpNop:
			at++
			continue
		case at+1 >= end || tcp[at+1] < 2 || at+int(tcp[at+1]) > end:
			return false
		case kind == tcpMSS:
			if tcp[at+1] != 4 {
				return false
			}
			old := be.Uint16(tcp[at+2:])
			if old <= mss {
				return false
			}
			be.PutUint16(tcp[at+2:], mss)
			was, is := old, mss
			if at%2 != 0 { // it lies across two of the checksum's words, which add up the same with the bytes swapped
				was, is = old<<8|old>>8, mss<<8|mss>>8
			}
			be.PutUint16(tcp[16:], Update16(be.Uint16(tcp[16:]), was, is))
			return true
		}
		at += int(tcp[at+1])
	}
	return false
}
