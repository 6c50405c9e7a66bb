package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"

	"vrouter/mgmt/codec"
)

func TestDocument(t *testing.T) {
	const nc = ` xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"`
	for _, c := range []struct{ name, text, want string }{
		{"one node", `<a xmlns="urn:a"/>`, `<a xmlns="urn:a"/>`},
		{"declaration, comment, byte order mark", "\xef\xbb\xbf<?xml version='1.0'?>\n<!-- c --><a xmlns=\"urn:a\"/>\n", `<a xmlns="urn:a"/>`},
		{"several", `<a xmlns="urn:a">1</a> <b xmlns="urn:b"/>`, `<a xmlns="urn:a">1</a><b xmlns="urn:b"/>`},
		{"config", `<config><a xmlns="urn:a"/></config>`, `<a` + nc + ` xmlns="urn:a"/>`},
		{"empty config", `<config/>`, ""},
		{"config around nothing", "<config>\n</config>", ""},
		{"its declarations", `<nc:data` + nc + ` xmlns="urn:a" xmlns:b="urn:b"><a><b:c/></a></nc:data>`, `<a xmlns:b="urn:b" xmlns="urn:a"` + nc + `><b:c/></a>`},
		{"data of another namespace", `<data xmlns="urn:a"><x/></data>`, `<data xmlns="urn:a"><x/></data>`},
		{"two of them", `<config/><config/>`, `<config/><config/>`},
		{"nc without declaration", `<a xmlns="urn:a" nc:operation="delete"/>`, `<a xmlns="urn:a" nc:operation="delete"/>`},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := parseDocument([]byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			got, err := d.content("config", "data")
			if err != nil || attributes(got) != attributes(c.want) {
				t.Errorf("%v\ngot  %s\nwant %s", err, got, c.want)
			}
			if cfg, err := d.config(); err != nil || !strings.HasPrefix(cfg, "<config"+nc+">") {
				t.Error(cfg, err)
			}
		})
	}
	for _, c := range []struct{ text, want string }{
		{"", " holds no element"},
		{"<a>\n</b>", ":2:3: not well-formed: end tag of another element"},
		{"<a/>\n<a/>\n\n  trailing", ":4:3: not well-formed: text outside the root element"},
		{"<a b='1' b='2'/>", ":1:"},
		{"\xff<a/>", ": not well-formed: not UTF-8"},
		{`<?xml version="1.0" encoding="utf-16"?><a/>`, " is in utf-16; only UTF-8 is read"},
	} {
		if _, err := parseDocument([]byte(c.text)); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q: %v, wanted %q", c.text, err, c.want)
		}
	}
}

// attributes sorts nothing but the order of declarations out of a text: which
// come first is not the point.
func attributes(s string) string {
	var b strings.Builder
	dec := xml.NewDecoder(strings.NewReader("<r xmlns:nc='urn:ietf:params:xml:ns:netconf:base:1.0'>" + s + "</r>"))
	for {
		t, err := dec.Token()
		if err != nil {
			return b.String()
		}
		switch t := t.(type) {
		case xml.StartElement:
			b.WriteString("<" + t.Name.Space + " " + t.Name.Local)
			for _, a := range t.Attr {
				if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" {
					b.WriteString(" " + a.Name.Space + " " + a.Name.Local + "=" + a.Value)
				}
			}
			b.WriteString(">")
		case xml.EndElement:
			b.WriteString("</>")
		case xml.CharData:
			b.Write(t)
		}
	}
}

// What is taken from a file is well-formed where it is put.
func FuzzDocument(f *testing.F) {
	for _, s := range []string{`<a xmlns="urn:a"/>`, `<config><a xmlns="urn:a"/></config>`, "<?xml version='1.0'?><!-- c --><a>x</a><b/>",
		`<nc:data xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" xmlns="urn:a"><a><![CDATA[]]>]]&gt;]]></a></nc:data>`, "<a><b></a>", "text"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDocument(bytes.Clone(b))
		if err != nil {
			return
		}
		s, err := d.config()
		if err != nil {
			t.Fatalf("%q was read, but not its content: %v", b, err)
		}
		lx, err := codec.NewLexer([]byte(s), nil)
		for depth := 0; err == nil; {
			var tok codec.Token
			tok, err = lx.Next()
			switch {
			case tok == codec.Start:
				depth++
			case tok == codec.End:
				depth--
			case tok == codec.EOF && err == nil:
				if depth != 0 {
					t.Fatalf("%q is open at its end", s)
				}
				return
			}
		}
		t.Fatalf("%q became %q: %v", b, s, err)
	})
}

func TestReindent(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`<a><b/><c>x</c></a>`, "<a>\n  <b/>\n  <c>x</c>\n</a>"},
		{"<a>\n\n<b>  </b>\n</a>", "<a>\n  <b>  </b>\n</a>"},
		{`<a x="1"><b y="&lt;">a &amp; b</b></a>`, "<a x=\"1\">\n  <b y=\"&lt;\">a &amp; b</b>\n</a>"},
		{`<a>text<b/></a>`, `<a>text<b/></a>`},
		{`<a><b/>text</a>`, `<a><b/>text</a>`},
		{`<a><!-- c --><b/></a>`, "<a>\n  <!-- c -->\n  <b/>\n</a>"},
		{`<a>`, `<a>`},
		{`</a>`, `</a>`},
		{``, ``},
	} {
		if got := reindent([]byte(c.in)); got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.in, got, c.want)
		}
	}
}

// Indenting changes nothing but white space between elements.
func FuzzReindent(f *testing.F) {
	for _, s := range []string{`<a><b/><c>x</c></a>`, "<a>\n<b> </b></a>", `<a>t<b/></a>`, "<a"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := reindent(b)
		if skim(string(b)) != skim(got) {
			t.Errorf("%q became %q", b, got)
		}
	})
}

// skim gives the tokens of a text without white space between elements.
func skim(s string) string {
	var b strings.Builder
	dec := xml.NewDecoder(strings.NewReader(s))
	space, leaf := "", false
	for {
		t, err := dec.RawToken()
		if err != nil {
			if err != io.EOF {
				b.WriteString("!")
			}
			return b.String()
		}
		switch t := t.(type) {
		case xml.StartElement:
			b.WriteString("<" + t.Name.Space + ":" + t.Name.Local)
			space, leaf = "", true
		case xml.EndElement:
			if leaf {
				b.WriteString(space)
			}
			b.WriteString(">")
			space, leaf = "", false
		case xml.CharData:
			if strings.TrimSpace(string(t)) == "" {
				space = string(t)
			} else {
				b.Write(t)
			}
		}
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{"vrouterctl": "vrouterctl", "my change": "'my change'", "it's": `'it'\''s'`, "a;b": "'a;b'"} {
		if got := shellQuote(in); got != want {
			t.Errorf("%q: %s, wanted %s", in, got, want)
		}
	}
}
