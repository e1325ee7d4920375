import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.neo4j.dbms.api.DatabaseManagementServiceBuilder;

/**
 * Runs a Neo4j Community server for tests: HOME CONFIG PASSWORD_FILE. Says "ready" when it answers over Bolt, and ends
 * when its standard input does. The distribution's own start class is not among Maven's packages; the server is.
 */
public final class ServeNeo4j {
    public static void main(String[] words) throws Exception {
        try {
            serve(Path.of(words[0]), Path.of(words[1]), Path.of(words[2]));
        } catch (Exception error) {
            // Threads of a server that has begun would keep the process alive.
            error.printStackTrace();
            System.exit(1);
        }
    }

    private static void serve(Path home, Path config, Path passwordFile) throws Exception {
        var server = new DatabaseManagementServiceBuilder(home).loadPropertiesFromFile(config).build();
        var done = home.resolve("password-is-set");
        // After a restart it is set already, and Neo4j refuses a password that is the old one.
        if (!Files.exists(done)) {
            var password = Files.readAllLines(passwordFile).get(0);
            server.database("system").executeTransactionally(
                    "ALTER USER neo4j SET PASSWORD $password CHANGE NOT REQUIRED", Map.of("password", password));
            Files.createFile(done);
        }
        System.out.println("ready");
        while (System.in.read() >= 0) {
            // Whoever started this holds the other end.
        }
        server.shutdown();
    }
}
