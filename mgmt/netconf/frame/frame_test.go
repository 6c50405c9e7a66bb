package frame

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

// all reads messages to the end of the stream and gives the final error.
func all(r io.Reader, chunked bool, limit int) (msgs []string, err error) {
	fr := NewReader(r, limit)
	if chunked {
		fr.Chunked()
	}
	for {
		m, err := fr.Next(nil)
		if err != nil {
			return msgs, err
		}
		msgs = append(msgs, string(m))
	}
}

// kind names an error in the terms a test wants to tell apart.
func kind(err error) string {
	var se *SyntaxError
	switch {
	case errors.As(err, &se):
		return "syntax"
	case err == io.EOF:
		return "end"
	case err == io.ErrUnexpectedEOF:
		return "cut"
	case err == ErrTooBig:
		return "too big"
	}
	return "other"
}

// limit of the readers in the cases below.
const limit = 110

var chunkCases = []struct {
	name, in string
	want     []string
	end      string
}{
	{"the example of RFC 6242", "\n#4\n<rpc\n#18\n message-id=\"102\"\n\n#79\n     xmlns=\"urn:ietf:params:xml:ns:netconf:base:1.0\">\n  <close-session/>\n</rpc>\n##\n",
		[]string{"<rpc message-id=\"102\"\n     xmlns=\"urn:ietf:params:xml:ns:netconf:base:1.0\">\n  <close-session/>\n</rpc>"}, "end"},
	{"two messages", "\n#1\na\n##\n\n#2\nbc\n##\n", []string{"a", "bc"}, "end"},
	{"a character cut in two", "\n#1\n\xc3\n#1\n\xa4\n##\n", []string{"ä"}, "end"},
	{"data that looks like framing", "\n#4\n\n##\n\n##\n", []string{"\n##\n"}, "end"},
	{"line feeds between messages", "\n#1\na\n##\n\n\n\n#1\nb\n##\n\n", []string{"a", "b"}, "end"},
	{"nothing", "", nil, "end"},
	{"size 0", "\n#0\n\n##\n", nil, "syntax"},
	{"leading zero", "\n#01\na\n##\n", nil, "syntax"},
	{"no size", "\n#\na\n##\n", nil, "syntax"},
	{"negative", "\n#-1\na\n##\n", nil, "syntax"},
	{"too large a size", "\n#4294967296\na", nil, "syntax"},
	{"size of many digits", "\n#99999999999999999999999999\n", nil, "syntax"},
	{"no chunk", "\n##\n", nil, "syntax"},
	{"no line feed", "#1\na\n##\n", nil, "syntax"},
	{"a line feed too many between chunks", "\n#1\na\n\n#1\nb\n##\n", nil, "syntax"},
	{"end-of-message framing", "<rpc/>]]>]]>", nil, "syntax"},
	{"bad end", "\n#1\na\n##x", nil, "syntax"},
	{"cut in the data", "\n#10\nabc", nil, "cut"},
	{"cut in the header", "\n#1", nil, "cut"},
	{"cut before the end of chunks", "\n#1\na", nil, "cut"},
	{"above the limit at once", "\n#4294967295\nabc", nil, "too big"},
	{"above the limit in sum", "\n#60\n" + strings.Repeat("x", 60) + "\n#60\n", nil, "too big"},
}

var markCases = []struct {
	name, in string
	want     []string
	end      string
}{
	{"one", "<a/>]]>]]>", []string{"<a/>"}, "end"},
	{"two, with white space around", "<a/>]]>]]>\n\r\n <b/>]]>]]>\n", []string{"<a/>", "<b/>"}, "end"},
	{"almost the mark", "<a>]]>]]</a>]]>]]]>]]>", []string{"<a>]]>]]</a>]]>]"}, "end"},
	{"nothing", "", nil, "end"},
	{"empty messages", "]]>]]>]]>]]>", []string{"", ""}, "end"},
	{"cut", "<a/>]]>]]", nil, "cut"},
	{"above the limit", strings.Repeat("x", limit+1) + "]]>]]>", nil, "too big"},
	{"at the limit", strings.Repeat("x", limit) + "]]>]]>", []string{strings.Repeat("x", limit)}, "end"},
	{"endless", strings.Repeat("x", 1000), nil, "too big"},
}

func TestReader(t *testing.T) {
	readers := map[string]func(string) io.Reader{
		"whole":    func(s string) io.Reader { return strings.NewReader(s) },
		"by byte":  func(s string) io.Reader { return iotest.OneByteReader(strings.NewReader(s)) },
		"data+err": func(s string) io.Reader { return iotest.DataErrReader(strings.NewReader(s)) },
	}
	for how, open := range readers {
		for _, c := range chunkCases {
			got, err := all(open(c.in), true, limit)
			if strings.Join(got, "|") != strings.Join(c.want, "|") || kind(err) != c.end {
				t.Errorf("chunks, %s, %s: %q %v, want %q %s", c.name, how, got, err, c.want, c.end)
			}
		}
		for _, c := range markCases {
			got, err := all(open(c.in), false, limit)
			if strings.Join(got, "|") != strings.Join(c.want, "|") || kind(err) != c.end {
				t.Errorf("mark, %s, %s: %q %v, want %q %s", c.name, how, got, err, c.want, c.end)
			}
		}
	}
}

// The first message in chunks may come in the same read as the hello.
func TestSwitch(t *testing.T) {
	r := NewReader(strings.NewReader("<hello/>]]>]]>\n#2\nhi\n##\n"), 100)
	a, err := r.Next(nil)
	if err != nil || string(a) != "<hello/>" {
		t.Fatalf("%q %v", a, err)
	}
	r.Chunked()
	if b, err := r.Next(a[:0]); err != nil || string(b) != "hi" {
		t.Fatalf("%q %v", b, err)
	}
}

// A promised chunk of 4 GiB must not be allocated before it arrives.
func TestPromiseIsNotAllocated(t *testing.T) {
	n := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := all(strings.NewReader("\n#4294967295\nabc"), true, MaxChunk); kind(err) != "cut" {
				b.Fatal(err)
			}
		}
	}).AllocedBytesPerOp()
	if n > 64<<10 {
		t.Errorf("%d bytes allocated for 3 that came", n)
	}
}

// writes counts the writes to the stream below.
type writes struct {
	bytes.Buffer
	n int
}

func (w *writes) Write(p []byte) (int, error) { w.n++; return w.Buffer.Write(p) }

func TestWriter(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		for _, size := range []int{1, 5, piece - 1, piece, piece + 1, 3*piece + 7} {
			var out writes
			w := NewWriter(&out)
			if chunked {
				w.Chunked()
			}
			in := strings.Repeat("abcdefg", size/7+1)[:size]
			for i := 0; i < 2; i++ { // twice: the buffer is used again
				io.WriteString(w, in[:size/2])
				io.WriteString(w, in[size/2:])
				if err := w.End(); err != nil {
					t.Fatal(err)
				}
			}
			if want := 2 * (size/piece + 1); out.n != want {
				t.Errorf("size %d: %d writes, want %d", size, out.n, want)
			}
			got, err := all(&out.Buffer, chunked, 10*piece)
			if err != io.EOF || len(got) != 2 || got[0] != in || got[1] != in {
				t.Errorf("size %d, chunked %v: %d messages, %v", size, chunked, len(got), err)
			}
		}
	}
}

func TestWriterError(t *testing.T) {
	pr, pw := io.Pipe()
	pr.Close()
	w := NewWriter(pw)
	io.WriteString(w, "x")
	if err := w.End(); err != io.ErrClosedPipe {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "y"); err != io.ErrClosedPipe {
		t.Fatal("the error does not stay:", err)
	}
}

// grammar is RFC 6242 section 4.2 as a pattern, for one chunk header.
var grammar = regexp.MustCompile(`^\n#([1-9][0-9]{0,9})\n`)

// reference reads chunked messages the slow and plain way.
func reference(b []byte, limit int) (msgs []string, end string) {
	var msg []byte
	for {
		if msg == nil { // between messages: passed over, as the package says
			t := bytes.TrimLeft(b, "\n")
			if len(t) == 0 {
				return msgs, "end"
			}
			if len(t) < len(b) {
				b = b[len(b)-len(t)-1:]
			}
		} else if bytes.HasPrefix(b, []byte("\n##\n")) {
			msgs, msg, b = append(msgs, string(msg)), nil, b[4:]
			continue
		}
		m := grammar.FindSubmatch(b)
		if m == nil {
			return msgs, "bad"
		}
		n, _ := strconv.ParseUint(string(m[1]), 10, 64)
		if n > MaxChunk || n > uint64(limit-len(msg)) {
			return msgs, "bad"
		}
		if b = b[len(m[0]):]; uint64(len(b)) < n {
			return msgs, "bad"
		}
		msg, b = append(msg, b[:n]...), b[n:]
	}
}

func FuzzChunks(f *testing.F) {
	for _, c := range chunkCases {
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		want, end := reference(in, 100)
		for _, r := range []io.Reader{bytes.NewReader(in), iotest.OneByteReader(bytes.NewReader(in))} {
			got, err := all(r, true, 100)
			if strings.Join(got, "\x00") != strings.Join(want, "\x00") || (kind(err) == "end") != (end == "end") {
				t.Fatalf("%q: %q %v, want %q %s", in, got, err, want, end)
			}
		}
	})
}

func FuzzMark(f *testing.F) {
	for _, c := range markCases {
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		parts := strings.Split(string(in), "]]>]]>")
		for i, p := range parts {
			parts[i] = strings.TrimLeft(p, " \t\r\n")
		}
		for _, r := range []io.Reader{bytes.NewReader(in), iotest.OneByteReader(bytes.NewReader(in))} {
			got, err := all(r, false, 1<<20)
			last := parts[len(parts)-1]
			if strings.Join(got, "\x00") != strings.Join(parts[:len(parts)-1], "\x00") || (err == io.EOF) != (last == "") {
				t.Fatalf("%q: %q %v", in, got, err)
			}
		}
	})
}
