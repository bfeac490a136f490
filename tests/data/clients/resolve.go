// Asks for each name: `system NAME...` as any Go program without cgo does, `ADDRESS:PORT NAME...` that server.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	resolver := &net.Resolver{PreferGo: true}
	if server := os.Args[1]; server != "system" {
		resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server)
		}
	}
	for _, name := range os.Args[2:] {
		found, err := ask(resolver, name)
		var failure *net.DNSError
		switch {
		case err == nil:
			fmt.Println(name+":", strings.Join(found, " "))
		case errors.As(err, &failure) && failure.IsNotFound:
			fmt.Println(name + ": not found")
		default:
			fmt.Println(name+":", err)
		}
	}
}

func ask(resolver *net.Resolver, name string) (found []string, err error) {
	if strings.HasPrefix(name, "_") {
		_, services, err := resolver.LookupSRV(context.Background(), "", "", name)
		for _, service := range services {
			found = append(found, fmt.Sprintf("%s%d", service.Target, service.Port))
		}
		return found, err
	}
	addresses, err := resolver.LookupIP(context.Background(), "ip4", name)
	for _, address := range addresses {
		found = append(found, address.String())
	}
	return found, err
}
