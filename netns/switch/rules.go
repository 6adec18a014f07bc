package netswitch

// The packet filter of the switch's namespace, by nftables over netlink.

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/switch/relay"
)

const tableName = "skiff"

// loopbackSets hold the containers that may reach the host's loopback, by family.
var loopbackSets = [2]string{"loopback4", "loopback6"}

// filter changes the packet filter: f adds to the batch, which is done at once or not at all.
func (s *space) filter(f func(c *nftables.Conn) error) error {
	err := s.do(func() error {
		c, err := nftables.New()
		if err == nil {
			err = f(c)
		}
		if err == nil {
			err = c.Flush()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot change the packet filter: %w", err)
	}
	return nil
}

// ifPrefix matches interfaces whose name begins with prefix.
func ifPrefix(key expr.MetaKey, prefix string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(prefix)}}
}

// ifName matches one interface.
func ifName(key expr.MetaKey, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifData(name)}}
}

// ifData is an interface's name as the kernel compares it.
func ifData(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func drop() expr.Any { return &expr.Verdict{Kind: expr.VerdictDrop} }

// rules writes the table anew: what one network may send another (nothing), what may leave, and who carries it. With a relay's ports the kernel's sockets do; without, the stack.
func (s *space) rules(port4, port6 uint16) error {
	err := s.write(port4, port6, &expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
	if lacking(err) {
		return s.write(port4, port6, drop()) // perhaps that expression (module nft_reject_inet): whoever is not answered waits
	}
	return err
}

// lacking says that the kernel does not have an expression of nf_tables.
func lacking(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT)
}

// write is rules, with what is done where nobody listens.
func (s *space) write(port4, port6 uint16, refuse expr.Any) error {
	return s.filter(func(c *nftables.Conn) error {
		t := newTable(c, s.inherited)
		// First of all: a connection of a container that has gone is not one of whoever has its address now.
		if err := t.loopback(); err != nil {
			return err
		}
		if port4 != 0 {
			if err := t.relayed(port4, port6); err != nil {
				return err
			}
		} else {
			t.stacked()
		}
		t.common(refuse)
		return nil
	})
}

// table is the switch's while it is written.
type table struct {
	*nftables.Table
	conn                     *nftables.Conn
	arriving, forward, input *nftables.Chain
}

// newTable begins one, in place of that of a switch before, if there may be one: where nothing is taken away the kernel waits for nobody (1.5 ms, in place of 7 and more).
func newTable(c *nftables.Conn, before bool) *table {
	t := &table{Table: &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}, conn: c}
	c.AddTable(t.Table)
	if before {
		c.DelTable(t.Table)
		c.AddTable(t.Table)
	}
	t.arriving = t.chain("arriving", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityMangle)
	t.forward = t.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	t.input = t.chain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	// From other interfaces (parents of macvlan networks) nothing is for us, nor for anybody behind us: what is for containers on them does not come this way.
	foreign := []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}}
	for _, own := range [][]byte{[]byte(bridgePrefix), []byte(internalPrefix), ifData(uplinkName), ifData("lo")} {
		foreign = append(foreign, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: own})
	}
	t.add(t.arriving, foreign, []expr.Any{drop()})
	return t
}

func (t *table) chain(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return t.conn.AddChain(&nftables.Chain{Name: name, Table: t.Table, Type: kind, Hooknum: hook, Priority: priority, Policy: &accept})
}

func (t *table) add(chain *nftables.Chain, parts ...[]expr.Any) {
	t.conn.AddRule(&nftables.Rule{Table: t.Table, Chain: chain, Exprs: slices.Concat(parts...)})
}

// isFamily matches packets of IPv4 or IPv6 (NFPROTO_).
func isFamily(family byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}}}
}

// isProtocol matches packets of a transport.
func isProtocol(protocol byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}}}
}

// isSYN matches segments of TCP that begin a connection.
func isSYN() []expr.Any {
	const offsetFlags, syn, rst, ack = 13, 2, 4, 16
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offsetFlags, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{syn | rst | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{syn}},
	}
}

// setMark makes a packet one of ours, whoever it is addressed to.
func setMark() []expr.Any {
	return []expr.Any{&expr.Immediate{Register: 1, Data: mark()}, &expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true}}
}

// relayed adds what the relay needs (package relay): what one of its sockets is there for is ours, and connections that it lets go on are for its listeners. There is no rule about
// connections in the table: the kernel does not track any.
func (t *table) relayed(port4, port6 uint16) error {
	for _, protocol := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		t.add(t.arriving, isProtocol(protocol), []expr.Any{
			&expr.Socket{Key: expr.SocketKeyTransparent, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}},
		}, setMark(), []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}})
	}
	for _, way := range []struct {
		family  byte
		address netip.Addr
		port    uint16
	}{{unix.NFPROTO_IPV4, netip.AddrFrom4([4]byte{127, 0, 0, 1}), port4}, {unix.NFPROTO_IPV6, netip.IPv6Loopback(), port6}} {
		if way.port == 0 {
			continue
		}
		t.add(t.arriving, ifName(expr.MetaKeyIIFNAME, uplinkName), isFamily(way.family), isProtocol(unix.IPPROTO_TCP), isSYN(),
			[]expr.Any{&expr.Immediate{Register: portRegister, Data: binaryutil.BigEndian.PutUint16(way.port)}}, handOver(way.family, way.address))
		ports := shortcuts(t.Table, way.address)
		if err := t.conn.AddSet(ports, nil); err != nil {
			return err
		}
		source, size, second, third := uint32(12), uint32(4), uint32(unix.NFT_REG32_01), uint32(unix.NFT_REG32_02)
		if way.family == unix.NFPROTO_IPV6 {
			source, size, second, third = 8, 16, 2, 3
		}
		t.add(t.arriving, ifPrefix(expr.MetaKeyIIFNAME, bridgePrefix), isFamily(way.family), isProtocol(unix.IPPROTO_TCP), isSYN(), []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: source, Len: size},
			&expr.Payload{DestRegister: second, Base: expr.PayloadBaseNetworkHeader, Offset: source + size, Len: size},
			&expr.Payload{DestRegister: third, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Lookup{SourceRegister: 1, SetName: ports.Name, SetID: ports.ID, DestRegister: portRegister, IsDestRegSet: true},
		}, handOver(way.family, way.address))
	}
	return nil
}

// portRegister is the last of four, which no key reaches into.
const portRegister = 4

// handOver gives a SYN to the listener at an address of the loopback and the port in portRegister.
func handOver(family byte, address netip.Addr) []expr.Any {
	return slices.Concat([]expr.Any{
		&expr.Immediate{Register: 1, Data: address.AsSlice()},
		&expr.TProxy{Family: family, TableFamily: unix.NFPROTO_INET, RegAddr: 1, RegPort: portRegister},
	}, setMark(), []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}})
}

// shortcuts is the map of the relay's shortcuts for addresses like this one: container . target . port -> port of a listener.
func shortcuts(t *nftables.Table, like netip.Addr) *nftables.Set {
	name, address := "shortcuts4", nftables.TypeIPAddr
	if like.Is6() {
		name, address = "shortcuts6", nftables.TypeIP6Addr
	}
	return &nftables.Set{Table: t, Name: name, KeyType: nftables.MustConcatSetType(address, address, nftables.TypeInetService), DataType: nftables.TypeInetService, IsMap: true, Concatenation: true}
}

// steer is relay.Steer. What the rules would say of such a SYN they have said of those before it: the container's address and the target are the same.
func (s *space) steer(from netip.Addr, to netip.AddrPort, port uint16) error {
	return s.filter(func(c *nftables.Conn) error {
		ports := shortcuts(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}, from)
		key := slices.Concat(from.AsSlice(), to.Addr().AsSlice(), binaryutil.BigEndian.PutUint16(to.Port()), []byte{0, 0})
		if port == 0 {
			return c.SetDeleteElements(ports, []nftables.SetElement{{Key: key}})
		}
		return c.SetAddElements(ports, []nftables.SetElement{{Key: key, Val: binaryutil.BigEndian.PutUint16(port)}})
	})
}

// stacked adds what the stack needs (package uplink): answers to connections that the switch makes with a client's address are for us. The stack sees containers by their own addresses.
func (t *table) stacked() {
	ours := t.chain("ours", nftables.ChainTypeRoute, nftables.ChainHookOutput, nftables.ChainPriorityMangle)
	// Answers pass: what may not begin is what the rules are about.
	t.add(t.forward, []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
		&expr.Verdict{Kind: expr.VerdictAccept},
	})
	t.add(ours, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(ownMark)},
		&expr.Immediate{Register: 1, Data: mark()}, &expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true},
	})
	t.add(t.arriving, []expr.Any{
		&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: mark()},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
	})
}

// loopback keeps those from the uplink's own address, which is the host's loopback, who were not given it.
func (t *table) loopback() error {
	for i, gateway := range []netip.Addr{relay.Gateway4, relay.Gateway6} {
		kind, size := nftables.TypeIPAddr, uint32(4)
		if i == 1 {
			kind, size = nftables.TypeIP6Addr, 16
		}
		set := &nftables.Set{Table: t.Table, Name: loopbackSets[i], KeyType: kind}
		if err := t.conn.AddSet(set, nil); err != nil {
			return err
		}
		family, source, target := byte(unix.NFPROTO_IPV4), uint32(12), uint32(16)
		if i == 1 {
			family, source, target = unix.NFPROTO_IPV6, 8, 24
		}
		t.add(t.forward, isFamily(family), []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: target, Len: size},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: gateway.AsSlice()},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: source, Len: size},
			&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: true},
			drop(),
		})
	}
	return nil
}

// common adds what holds either way: who may send to whom.
func (t *table) common(refuse expr.Any) {
	// Networks do not reach each other, internal ones nothing. Between containers of one network the bridge forwards, not this.
	for _, from := range []string{bridgePrefix, internalPrefix} {
		for _, to := range []string{bridgePrefix, internalPrefix} {
			t.add(t.forward, ifPrefix(expr.MetaKeyIIFNAME, from), ifPrefix(expr.MetaKeyOIFNAME, to), []expr.Any{drop()})
		}
	}
	t.add(t.forward, ifPrefix(expr.MetaKeyIIFNAME, internalPrefix), []expr.Any{drop()})
	t.add(t.forward, ifPrefix(expr.MetaKeyOIFNAME, internalPrefix), []expr.Any{drop()})
	// Of the switch itself containers reach the name server and echo: a connection to another port is refused. Datagrams find no socket but those that we have connected with them.
	for _, prefix := range []string{bridgePrefix, internalPrefix} {
		t.add(t.input, ifPrefix(expr.MetaKeyIIFNAME, prefix), isProtocol(unix.IPPROTO_TCP), isSYN(), []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.BigEndian.PutUint16(53)},
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: mark()},
			refuse,
		})
	}
}

func mark() []byte { return binaryutil.NativeEndian.PutUint32(localMark) }

// allowLoopback lets addresses reach the host's loopback, or no more.
func (s *space) allowLoopback(addresses []netip.Addr, allow bool) error {
	if len(addresses) == 0 {
		return nil
	}
	return s.filter(func(c *nftables.Conn) error {
		t := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
		for _, a := range addresses {
			i := 0
			if a.Is6() {
				i = 1
			}
			set, err := c.GetSetByName(t, loopbackSets[i])
			if err != nil {
				return err
			}
			elements := []nftables.SetElement{{Key: a.AsSlice()}}
			if allow {
				err = c.SetAddElements(set, elements)
			} else {
				err = c.SetDeleteElements(set, elements)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
