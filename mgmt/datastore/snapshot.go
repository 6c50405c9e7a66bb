package datastore

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// A whole configuration on disk is a line and the configuration in XML:
//
//	<!-- vrouter running segment=4 seq=57 time=2026-… kind=commit tentative=false session=4 user="admin" len=3212345 crc=<crc> -->
//	<config …>…</config>
//
// crc is the CRC32C of the line up to itself and of all that follows the line.
// The line is a comment of XML, so that the file can be given to any tool as it
// is. startup may be written by hand, without that line.
type snapshot struct {
	Version
	what    string // running or startup
	segment int    // the first segment with records that follow
	body    []byte // the XML, while it is read
}

const (
	startupName  = "startup.xml"
	previousName = "running-before-boot.xml"
	bootName     = "boot-id"

	commentOpen = "<!-- vrouter "
	commentEnd  = " -->"
)

func snapshotName(seq uint64) string { return fmt.Sprintf("snapshot-%020d.xml", seq) }

func parseSnapshotName(name string) (seq uint64, ok bool) {
	s, ok := strings.CutPrefix(name, "snapshot-")
	s, xml := strings.CutSuffix(s, ".xml")
	if !ok || !xml || len(s) != 20 {
		return 0, false
	}
	seq, err := strconv.ParseUint(s, 10, 64)
	return seq, err == nil
}

// write puts the configuration in place as a file and gives its size.
func (s *snapshot) write(d FS, w codec.Writer, name string) (int64, error) {
	body := append([]byte(nil), treeOpen...)
	body = append(w.Append(body, s.Tree), treeEnd...)
	body = append(body, '\n')
	r := record{seq: s.Seq, time: s.Time, kind: s.Kind, tentative: s.Tentative, by: s.By, edit: body}
	head := fmt.Appendf(nil, "%s%s segment=%d ", commentOpen, s.what, s.segment)
	head = r.appendFields(head)
	head = fmt.Appendf(head, " crc=%08x%s\n", nonce{}.sum(head, body), commentEnd)
	return int64(len(head) + len(body)), writeFile(d, name, head, body)
}

// parseSnapshot checks a file and reads what its first line says. A file
// without that line has no Seq, nor anything else; all of it is the body.
func parseSnapshot(b []byte) (s snapshot, body []byte, err error) {
	line, body, ok := bytes.Cut(b, []byte("\n"))
	if !ok || !bytes.HasPrefix(line, []byte(commentOpen)) {
		return s, b, nil
	}
	f := fields{rest: strings.TrimSuffix(string(line), commentEnd)}
	f.word("<!--")
	f.word("vrouter")
	s.what, f.rest, _ = strings.Cut(f.rest, " ")
	s.segment = int(f.number("segment", 31))
	f.version(&s.Seq, &s.Time, &s.Kind, &s.Tentative, &s.By)
	n := f.number("len", 63)
	sum := f.get("crc")
	summed := len(line) - len(" crc=01234567") - len(commentEnd)
	switch {
	case f.bad || f.rest != "" || summed < 0:
		return s, nil, errors.New("its first line is damaged")
	case n != uint64(len(body)):
		return s, nil, fmt.Errorf("it is %d bytes long where %d were written", len(b), len(line)+1+int(n))
	case sum != fmt.Sprintf("%08x", nonce{}.sum(line[:summed], body)):
		return s, nil, errors.New("its checksum is wrong")
	}
	return s, body, nil
}

// parseTree reads the XML of a whole configuration.
func parseTree(s *yang.Schema, body []byte) (*data.Container, error) {
	return codec.Edit(s, data.New(s), body, data.Merge)
}
