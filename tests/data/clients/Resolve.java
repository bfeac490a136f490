import java.net.Inet4Address;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.ArrayList;
import java.util.Hashtable;
import java.util.List;
import javax.naming.NameNotFoundException;
import javax.naming.NamingException;
import javax.naming.directory.DirContext;
import javax.naming.directory.InitialDirContext;

/** Asks for each name: `system NAME...` as any program does, `ADDRESS:PORT NAME...` that server, by JNDI. */
class Resolve {
    public static void main(String[] words) throws NamingException {
        DirContext server = words[0].equals("system") ? null : connect(words[0]);
        for (int at = 1; at < words.length; at++) {
            String said;
            try {
                said = String.join(" ", server == null ? addresses(words[at]) : records(server, words[at]));
            } catch (UnknownHostException | NameNotFoundException missing) {
                said = "not found";
            }
            System.out.println(words[at] + ": " + said);
        }
    }

    static DirContext connect(String server) throws NamingException {
        Hashtable<String, String> environment = new Hashtable<>();
        environment.put("java.naming.factory.initial", "com.sun.jndi.dns.DnsContextFactory");
        environment.put("java.naming.provider.url", "dns://" + server);
        return new InitialDirContext(environment);
    }

    static List<String> addresses(String name) throws UnknownHostException {
        List<String> found = new ArrayList<>();
        for (InetAddress address : InetAddress.getAllByName(name)) {
            if (address instanceof Inet4Address) {
                found.add(address.getHostAddress());
            }
        }
        return found;
    }

    static List<String> records(DirContext server, String name) throws NamingException {
        String type = name.startsWith("_") ? "SRV" : "A";
        List<String> found = new ArrayList<>();
        var values = server.getAttributes(name, new String[] {type}).get(type).getAll();
        while (values.hasMore()) {
            String[] data = values.next().toString().split(" ");
            found.add(type.equals("A") ? data[0] : data[3] + data[2]);
        }
        return found;
    }
}
