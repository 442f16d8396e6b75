// Writes rows by the client that Java brings, as it is by default: it asks for HTTP/2 by an upgrade. One argument:
// the executive's URL. Prints how many writes were answered by 200.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Writes {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        int written = 0;
        for (int id = 0; id < 300; id++) {
            String row = "{\"mutations\":[{\"table\":\"tab\",\"values\":{\"id\":" + id + ",\"value\":\"java\"}}]}";
            HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0] + "/families/fam/mutations"))
                .header("ctlstore-writer", "tester")
                .header("ctlstore-secret", "tester-secret")
                .POST(HttpRequest.BodyPublishers.ofString(row))
                .build();
            HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            if (answer.statusCode() == 200) {
                written++;
            } else {
                System.err.println(answer.statusCode() + " " + answer.body());
            }
        }
        System.out.println(written);
    }
}
