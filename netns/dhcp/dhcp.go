// Package dhcp gives an interface of a container its address: by DHCP for --network lxc-user-nic, or the one that was asked for. It is asked one question and does one thing; when to renew is for the
// container's monitor to know, which lives anyway and links nothing of this.
//
// It runs in the engine, as a process that a monitor starts for each question (run/stage), inside the user namespace that the container's network namespace belongs to.
package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/stage"
)

// How long servers may take, which may first look for two or three seconds whether somebody has the address. A question is asked again after a pause that doubles. The first is short: the bridge may drop what comes
// in the moment in which the interface is set up.
const (
	patience      = 20 * time.Second
	renewPatience = 10 * time.Second
	firstPause    = 300 * time.Millisecond
)

// Serve answers one question about an interface in the network namespace space; before is the one that it is still in, nil without. The calling thread stays in space for good.
func Serve(ctx context.Context, q stage.LeaseQuestion, space, before *os.File) stage.LeaseAnswer {
	runtime.LockOSThread()
	lease, err := serve(ctx, q, space, before)
	a := stage.LeaseAnswer{Lease: lease}
	if err != nil {
		var nak *nclient4.ErrNak
		a = stage.LeaseAnswer{Error: err.Error(), Refused: errors.As(err, &nak), Silent: errors.Is(err, nclient4.ErrNoResponse) || errors.Is(err, context.DeadlineExceeded)}
	}
	return a
}

func serve(ctx context.Context, q stage.LeaseQuestion, space, before *os.File) (*stage.Lease, error) {
	if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("cannot enter the network namespace: %w", err)
	}
	if q.Lease == nil && q.Do != stage.LeaseObtain && q.Do != stage.LeaseRelease {
		return nil, fmt.Errorf("cannot %s an address: there is none", q.Do)
	}
	if q.Do == stage.LeaseObtain || q.Do == stage.LeaseSet {
		if q.Moves {
			if before == nil {
				return nil, errors.New("cannot move the interface: it is nowhere")
			}
			if err := move(q.Interface, space, before); err != nil {
				return nil, err
			}
		}
		if err := raise(q); err != nil {
			return nil, err
		}
	}
	switch q.Do {
	case stage.LeaseSet:
		return q.Lease, apply(q.Interface, nil, q.Lease)
	case stage.LeaseRelease:
		return nil, errors.Join(release(q), remove(q.Interface))
	case stage.LeaseObtain:
		limited, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		ack, err := obtain(limited, q)
		return settle(q, ack, err)
	case stage.LeaseRenew, stage.LeaseRebind:
		limited, cancel := context.WithTimeout(ctx, renewPatience)
		defer cancel()
		ack, err := renew(limited, q)
		return settle(q, ack, err)
	}
	return nil, fmt.Errorf("cannot %s an address: there is no such thing", q.Do)
}

// settle makes a lease of what the server said and has the interface keep it.
func settle(q stage.LeaseQuestion, ack *dhcpv4.DHCPv4, err error) (*stage.Lease, error) {
	var lease *stage.Lease
	if err == nil {
		lease, err = read(ack, q.Lease)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot get an address: %w", err)
	}
	return lease, apply(q.Interface, q.Lease, lease)
}

// words are what a question to servers has besides: the options that they are asked for, and the container's name.
func words(q stage.LeaseQuestion) []dhcpv4.Modifier {
	all := []dhcpv4.Modifier{dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainName, dhcpv4.OptionDomainNameServer,
		dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue)}
	if q.Hostname != "" {
		all = append(all, dhcpv4.WithOption(dhcpv4.OptHostName(q.Hostname)))
	}
	return all
}

// obtain asks all servers for an address, the one before if there was one, and takes what is offered first.
func obtain(ctx context.Context, q stage.LeaseQuestion) (*dhcpv4.DHCPv4, error) {
	c, err := nclient4.New(q.Interface, nclient4.WithTimeout(firstPause), nclient4.WithRetry(-1))
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // a socket
	ask := words(q)
	discover := slices.Clone(ask)
	if q.Lease != nil {
		discover = append(discover, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(q.Lease.Address.Addr().AsSlice())))
	}
	for {
		offer, err := c.DiscoverOffer(ctx, discover...)
		if err != nil {
			return nil, err
		}
		lease, err := c.RequestFromOffer(ctx, offer, ask...)
		var nak *nclient4.ErrNak
		switch {
		case err == nil:
			return lease.ACK, nil
		case !errors.As(err, &nak):
			return nil, err
		}
		select { // somebody was quicker: there will be another offer
		case <-ctx.Done():
			return nil, err
		case <-time.After(firstPause):
		}
	}
}

// renew asks for more time: the server itself, from the address; or whoever is there.
func renew(ctx context.Context, q stage.LeaseQuestion) (*dhcpv4.DHCPv4, error) {
	before, err := dhcpv4.FromBytes(q.Lease.Ack)
	if err != nil {
		return nil, err
	}
	options := []nclient4.ClientOpt{nclient4.WithHWAddr(before.ClientHWAddr), nclient4.WithTimeout(firstPause), nclient4.WithRetry(-1)}
	to := nclient4.DefaultServers
	if q.Do == stage.LeaseRenew {
		to = &net.UDPAddr{IP: before.ServerIdentifier(), Port: nclient4.ServerPort}
		options = append(options, nclient4.WithUnicast(&net.UDPAddr{IP: before.YourIPAddr, Port: nclient4.ClientPort}))
	}
	c, err := nclient4.New(q.Interface, options...)
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // a socket
	request, err := dhcpv4.NewRenewFromAck(before, words(q)...)
	if err != nil {
		return nil, err
	}
	if request.TransactionID, err = dhcpv4.GenerateTransactionID(); err != nil {
		return nil, err
	}
	answer, err := c.SendAndRead(ctx, to, request, nclient4.IsMessageType(dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak))
	if err == nil && answer.MessageType() == dhcpv4.MessageTypeNak {
		err = &nclient4.ErrNak{Offer: before, Nak: answer}
	}
	return answer, err
}

// release tells the server that the address is free, when there is one. Nobody answers, and it is sent to all machines on the wire: whoever releases is gone before it could be asked for its own address.
func release(q stage.LeaseQuestion) error {
	if q.Lease == nil || len(q.Lease.Ack) == 0 {
		return nil
	}
	ack, err := dhcpv4.FromBytes(q.Lease.Ack)
	if err != nil {
		return fmt.Errorf("cannot give the address back: %w", err)
	}
	message, err := dhcpv4.NewReleaseFromACK(ack)
	if err != nil {
		return fmt.Errorf("cannot give the address back: %w", err)
	}
	raw, err := broadcaster(q.Interface, ack.YourIPAddr)
	if err != nil {
		return fmt.Errorf("cannot give the address back: %w", err)
	}
	_, err = raw.WriteTo(message.ToBytes(), &net.UDPAddr{IP: ack.ServerIdentifier(), Port: nclient4.ServerPort})
	if err = errors.Join(err, raw.Close()); err != nil {
		return fmt.Errorf("cannot give the address back: %w", err)
	}
	return nil
}
