package cgroup

// The little of D-Bus that one call takes (https://dbus.freedesktop.org/doc/dbus-specification.html). A library for all of it would be in every start.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// body is a message's arguments as they are marshalled, little-endian. Alignment counts from its beginning.
type body struct{ bytes []byte }

func (b *body) align(n int) {
	for len(b.bytes)%n != 0 {
		b.bytes = append(b.bytes, 0)
	}
}

func (b *body) uint32(v uint32) {
	b.align(4)
	b.bytes = binary.LittleEndian.AppendUint32(b.bytes, v)
}

func (b *body) string(s string) {
	b.uint32(uint32(len(s)))
	b.bytes = append(append(b.bytes, s...), 0)
}

func (b *body) signature(s string) {
	b.bytes = append(append(append(b.bytes, byte(len(s))), s...), 0)
}

// array is one whose elements, with this alignment, write makes.
func (b *body) array(alignment int, write func()) {
	b.uint32(0)
	at := len(b.bytes) - 4
	b.align(alignment)
	start := len(b.bytes)
	write()
	binary.LittleEndian.PutUint32(b.bytes[at:], uint32(len(b.bytes)-start))
}

// property is a structure of a name and a variant.
func (b *body) property(name, signature string, value func()) {
	b.align(8)
	b.string(name)
	b.signature(signature)
	value()
}

// bus is a connection to a message bus.
type bus struct {
	file   *os.File
	serial uint32
}

// The parts of a message's header.
const (
	methodCall, methodReturn, methodError                                                = 1, 2, 3
	fieldPath, fieldInterface, fieldMember, fieldReplySerial, fieldDestination, fieldSig = 1, 2, 3, 5, 6, 8
	fieldErrorName                                                                       = 4
	longest                                                                              = 1 << 20 // of a message that we take
)

// dialBus connects, as whom the kernel says we are: within a user namespace we have another number.
func dialBus(socket string) (*bus, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	b := &bus{file: os.NewFile(uintptr(fd), "bus")}
	patience := unix.NsecToTimeval(int64(scopePatience))
	err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience))
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
	}
	if err != nil {
		b.close()
		return nil, fmt.Errorf("%s: %w", socket, err)
	}
	if err := b.authenticate(); err != nil {
		b.close()
		return nil, fmt.Errorf("%s: %w", socket, err)
	}
	return b, b.call(call{"org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.Hello", ""}, nil)
}

func (b *bus) close() { b.file.Close() }

// authenticate is SASL's EXTERNAL without a name: the bus asks for it, and takes the one of the socket's credentials.
func (b *bus) authenticate() error {
	for _, turn := range [][2]string{{"\x00AUTH EXTERNAL\r\n", "DATA"}, {"DATA\r\n", "OK "}} {
		if _, err := io.WriteString(b.file, turn[0]); err != nil {
			return err
		}
		answer, err := b.line()
		if err != nil {
			return err
		}
		if !strings.HasPrefix(answer, turn[1]) {
			return fmt.Errorf("the message bus does not know this user: %s", answer)
		}
	}
	_, err := io.WriteString(b.file, "BEGIN\r\n")
	return err
}

func (b *bus) line() (string, error) {
	var text []byte
	for c := make([]byte, 1); len(text) < 4096; {
		if _, err := io.ReadFull(b.file, c); err != nil {
			return "", err
		}
		if text = append(text, c[0]); c[0] == '\n' {
			return strings.TrimRight(string(text), "\r\n"), nil
		}
	}
	return "", errors.New("its line does not end")
}

// call is a method call: member is INTERFACE.MEMBER.
type call struct{ destination, path, member, signature string }

// call sends a method call and waits for its answer, whose arguments nobody wants.
func (b *bus) call(c call, arguments []byte) error {
	b.serial++
	dot := strings.LastIndexByte(c.member, '.')
	m := body{[]byte{'l', methodCall, 0, 1}} // little-endian, flags, version
	m.uint32(uint32(len(arguments)))
	m.uint32(b.serial)
	m.array(8, func() {
		for _, f := range []struct {
			code      byte
			signature string
			value     string
		}{{fieldPath, "o", c.path}, {fieldInterface, "s", c.member[:dot]}, {fieldMember, "s", c.member[dot+1:]}, {fieldDestination, "s", c.destination}, {fieldSig, "g", c.signature}} {
			if f.value == "" {
				continue
			}
			m.align(8)
			m.bytes = append(m.bytes, f.code)
			m.signature(f.signature)
			if f.code == fieldSig {
				m.signature(f.value)
			} else {
				m.string(f.value)
			}
		}
	})
	m.align(8)
	if _, err := b.file.Write(append(m.bytes, arguments...)); err != nil {
		return err
	}
	for {
		kind, fields, text, err := b.receive()
		if err != nil {
			return err
		}
		if fields.replyTo != b.serial {
			continue // a signal
		}
		switch kind {
		case methodReturn:
			return nil
		case methodError:
			return fmt.Errorf("%s (%s)", text, fields.errorName)
		}
	}
}

// fields are those of a message's header that matter here.
type fields struct {
	replyTo   uint32
	errorName string
}

// receive reads one message: its kind, its header and, of an error, what it says.
func (b *bus) receive() (kind byte, f fields, text string, err error) {
	head := make([]byte, 16)
	if _, err = io.ReadFull(b.file, head); err != nil {
		return 0, f, "", err
	}
	bodyLen, fieldsLen := binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint32(head[12:])
	if head[0] != 'l' || bodyLen > longest || fieldsLen > longest {
		return 0, f, "", errors.New("the message bus sends what cannot be read")
	}
	rest := make([]byte, (fieldsLen+7)/8*8+bodyLen)
	if _, err = io.ReadFull(b.file, rest); err != nil {
		return 0, f, "", err
	}
	p := parser{rest[:fieldsLen]}
	for at := 0; len(p.rest) > 0; {
		before := len(p.rest)
		code := p.take(1)
		signature := p.short()
		switch signature {
		case "u":
			p.pad(at + before - len(p.rest))
			if v := p.number(); len(code) == 1 && code[0] == fieldReplySerial {
				f.replyTo = v
			}
		case "s", "o":
			p.pad(at + before - len(p.rest))
			if v := p.long(); len(code) == 1 && code[0] == fieldErrorName {
				f.errorName = v
			}
		case "g":
			p.short()
		default:
			return 0, f, "", errors.New("the message bus sends a header that cannot be read")
		}
		at += before - len(p.rest)
		at += p.skip((8 - at%8) % 8)
	}
	if head[1] == methodError && bodyLen > 0 {
		text = (&parser{rest[(fieldsLen+7)/8*8:]}).long()
	}
	return head[1], f, text, nil
}

// parser takes values off bytes; of what is too short it takes nothing.
type parser struct{ rest []byte }

func (p *parser) take(n int) []byte {
	if n < 0 || n > len(p.rest) {
		p.rest = nil
		return nil
	}
	v := p.rest[:n]
	p.rest = p.rest[n:]
	return v
}

func (p *parser) skip(n int) int { return len(p.take(min(n, len(p.rest)))) }

// pad goes on to the next four-byte boundary; at is how far the next byte is from the beginning.
func (p *parser) pad(at int) { p.take((4 - at%4) % 4) }

func (p *parser) number() uint32 {
	if v := p.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

// long is a string or an object path.
func (p *parser) long() string {
	v := string(p.take(int(p.number())))
	p.take(1)
	return v
}

// short is a signature.
func (p *parser) short() string {
	n := p.take(1)
	if n == nil {
		return ""
	}
	v := string(p.take(int(n[0])))
	p.take(1)
	return v
}
