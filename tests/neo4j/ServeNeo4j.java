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
        var password = Files.readAllLines(Path.of(words[2])).get(0);
        var server = new DatabaseManagementServiceBuilder(Path.of(words[0]))
                .loadPropertiesFromFile(Path.of(words[1]))
                .build();
        server.database("system").executeTransactionally(
                "ALTER USER neo4j SET PASSWORD $password CHANGE NOT REQUIRED", Map.of("password", password));
        System.out.println("ready");
        while (System.in.read() >= 0) {
            // Whoever started this holds the other end.
        }
        server.shutdown();
    }
}
